"""Publishes requests and matches their answers, for a client and for a gateway.

Replies come to a private queue, which dies with its connection. So when a connection is lost, every
request without an answer is published again on the next one, with the same OCPP message id. Whoever
answers absorbs the repetition of a request that was handled already. Where nobody would absorb it,
a question says so (:attr:`~bridge.dialects.dialect.Question.once`), and is published once.
"""

import asyncio
import itertools
import random
import secrets
from collections.abc import Callable
from typing import Final

from bridge.backoff import back_off
from bridge.client.asking import count_error, count_reply
from bridge.client.errors import NoAnswer, NotAccepted, no_queue
from bridge.client.tracing import Asking
from bridge.dialects.dialect import Dialect, Question
from bridge.dialects.headers import STATION_ID
from bridge.dialects.native import Native
from bridge.dialects.replies import read_offline, read_reply
from bridge.ocpp import (
    CallError,
    DataTransferResponse,
    ErrorCode,
    OcppVersion,
    decode_call_error,
    decode_response,
)
from bridge.request.outcome import Kind
from bridge.telemetry import ticks
from bridge.telemetry.measures import Tally
from bridge.telemetry.tracing import Tracing
from bridge.transport import Confirm, Delivery, Subscription, Transport

TIMEOUT: Final = 30.0
"""Seconds to wait for an answer. OCPP libraries wait as long."""
REFUSALS: Final = 6
"""Times that a request is published again after the broker refused it. With the pauses between them
that takes three seconds on average, and six at most."""
UNROUTED_PAUSE: Final = 1.0
"""The longest pause, in seconds, until a patient request is published again that no queue took. A
worker that starts declares its queues, and from then on nobody should wait much longer."""


class _Outstanding:
    """A request without its answer."""

    __slots__ = (
        "again",
        "answer",
        "correlation_id",
        "nobody",
        "patient",
        "published",
        "question",
        "refusals",
        "reported_lost",
        "unrouted",
    )

    def __init__(
        self,
        question: Question,
        correlation_id: str,
        answer: "asyncio.Future[Delivery]",
        nobody: Callable[[], Exception],
        *,
        patient: bool,
    ) -> None:
        self.question = question
        self.correlation_id = correlation_id
        self.answer = answer
        self.nobody = nobody
        self.patient = patient
        self.refusals = 0
        self.published = False
        self.unrouted = False
        """No queue took it, the last time."""
        self.reported_lost = False
        """A gateway has said that it has lost the station."""
        self.again: asyncio.TimerHandle | None = None
        """Publishes it again after a pause."""


class Requester:
    """Asks any number of questions at a time. Its transport must consume :attr:`subscription`."""

    def __init__(
        self,
        transport: Transport,
        dialect: Dialect | None = None,
        *,
        tracing: Tracing | None = None,
    ) -> None:
        """`dialect`: how the answers of stations come; None: as in the native dialect.

        `tracing`: makes a span for each question; None: there are none.
        """
        self._transport = transport
        self._asking = None if tracing is None else Asking(tracing, lambda: transport.address)
        self._dialect: Dialect = dialect or Native()
        self._overhears = bool(self._dialect.station_replies)
        """Whether the answers to others come to the same queue."""
        self._outstanding: dict[str, _Outstanding] = {}
        """By correlation id."""
        self._reply_queue: str | None = None
        """The queue that the latest questions are answered to."""
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._idle = asyncio.Event()
        self.late = 0
        """Replies that nobody waited for: too late, a second one, or of another station."""

    @property
    def subscription(self) -> Subscription:
        """The private queue of replies.

        Without acknowledgements, and so without a prefetch: a reply is matched as it comes.
        """
        bindings = self._dialect.station_replies
        return Subscription("", 0, self._on_delivery, no_ack=True, bindings=bindings)

    def __len__(self) -> int:
        """Requests without an answer."""
        return len(self._outstanding)

    async def ask(
        self,
        question: Question,
        seconds: float,
        *,
        nobody: Callable[[], Exception] = no_queue,
        patient: bool = False,
        tally: Tally | None = None,
    ) -> Delivery:
        """Publish, and await the reply for so many seconds.

        `nobody`: makes the error if no queue takes the request. `patient`: publish such a request
        again until its time is over, for there may be a queue by then. `tally`: where it is
        counted (:func:`~bridge.client.asking.asked`).

        Raises :class:`NoAnswer` after the time-out; the error of `nobody`; :class:`NotAccepted` if
        the broker refuses the request; ValueError if the question's correlation id is one that
        another question still has.
        """
        began = ticks.now()
        try:
            if self._asking is None:
                reply = await self._ask(question, seconds, nobody, patient=patient)
            else:
                reply = await self._asking.ask(
                    question, lambda asked: self._ask(asked, seconds, nobody, patient=patient)
                )
        except BaseException as error:
            if tally is not None:
                count_error(tally, error)
            raise
        if tally is not None:
            count_reply(tally, reply, ticks.now() - began)
        return reply

    async def _ask(
        self, question: Question, seconds: float, nobody: Callable[[], Exception], *, patient: bool
    ) -> Delivery:
        loop = asyncio.get_running_loop()
        correlation_id = question.correlation_id
        if correlation_id is None:
            correlation_id = f"{self._prefix}-{next(self._numbers):x}"
        elif correlation_id in self._outstanding:
            raise ValueError(
                f"a request with the id {correlation_id!r} waits for its answer already"
            )
        outstanding = _Outstanding(
            question, correlation_id, loop.create_future(), nobody, patient=patient
        )
        self._outstanding[correlation_id] = outstanding
        timer = loop.call_later(seconds, self._time_out, outstanding, seconds)
        try:
            self._publish(outstanding)
            return await outstanding.answer
        finally:
            timer.cancel()
            if outstanding.again is not None:
                outstanding.again.cancel()
            self._outstanding.pop(correlation_id, None)
            if not self._outstanding:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until every question has its answer."""
        while self._outstanding:
            self._idle.clear()
            await self._idle.wait()

    def on_state(self) -> None:
        """Look whether the transport has another reply queue, and if so ask everything again."""
        queue = self._transport.reply_queue
        if queue is None or queue == self._reply_queue:
            return
        self._reply_queue = queue
        for outstanding in tuple(self._outstanding.values()):
            if not (outstanding.published and outstanding.question.once):
                self._publish(outstanding)

    def close(self) -> None:
        """Tell all who still wait that there will be no answer."""
        for outstanding in self._outstanding.values():
            self._fail(outstanding, NoAnswer("no answer came before the connection was closed"))
        self._outstanding.clear()

    def _publish(self, outstanding: _Outstanding) -> None:
        if outstanding.again is not None:
            outstanding.again.cancel()
        reply_to = self._transport.reply_queue
        if reply_to is None or outstanding.answer.done():
            return  # between two connections: it is sent when the next one is open
        outstanding.published = True

        def on_confirm(confirm: Confirm) -> None:
            if outstanding.answer.done():
                return
            outstanding.unrouted = confirm is Confirm.RETURNED
            if confirm is Confirm.RETURNED:
                self._unrouted(outstanding)
            elif confirm is Confirm.REFUSED:
                self._refused(outstanding)
            elif confirm is Confirm.IMPOSSIBLE:
                text = "the broker does not take the request: it is larger than the broker allows"
                self._fail(outstanding, NotAccepted(text))

        self._transport.publish(
            outstanding.question.publishing(outstanding.correlation_id, reply_to), on_confirm
        )

    def _unrouted(self, outstanding: _Outstanding) -> None:
        if outstanding.patient:
            pause = random.uniform(UNROUTED_PAUSE / 2, UNROUTED_PAUSE)
            self._publish_again_in(pause, outstanding)
        else:
            self._fail(outstanding, outstanding.nobody())

    def _refused(self, outstanding: _Outstanding) -> None:
        """A queue without a leader refuses until it has another. A full one keeps refusing."""
        outstanding.refusals += 1
        if outstanding.refusals > REFUSALS or outstanding.question.once:
            self._fail(
                outstanding, NotAccepted("the broker refuses the request: its queue is full")
            )
        else:
            self._publish_again_in(back_off(outstanding.refusals), outstanding)

    def _publish_again_in(self, seconds: float, outstanding: _Outstanding) -> None:
        outstanding.again = asyncio.get_running_loop().call_later(
            seconds, self._publish, outstanding
        )

    def _time_out(self, outstanding: _Outstanding, seconds: float) -> None:
        if outstanding.unrouted:
            self._fail(outstanding, outstanding.nobody())
        else:
            self._fail(outstanding, NoAnswer(f"no answer within {max(seconds, 0):.3g} s"))

    def _fail(self, outstanding: _Outstanding, error: Exception) -> None:
        if not outstanding.answer.done():
            outstanding.answer.set_exception(error)

    def _on_delivery(self, delivery: Delivery) -> None:
        reply = self._dialect.read_station_reply(delivery)
        if reply is not None and (self._is_ours(reply) or not self._overhears):
            self._on_reply(reply)

    def _is_ours(self, reply: Delivery) -> bool:
        """Whether a reply is to a question of this requester, which may be over."""
        correlation_id = reply.properties.correlation_id or ""
        return correlation_id in self._outstanding or correlation_id.startswith(f"{self._prefix}-")

    def _on_reply(self, delivery: Delivery) -> None:
        outstanding = self._outstanding.get(delivery.properties.correlation_id or "")
        if (
            outstanding is None
            or outstanding.answer.done()
            or _about_another(delivery, outstanding.question)
        ):
            self.late += 1
        elif read_offline(delivery) is False and not outstanding.reported_lost:
            # The station was not sent the request. It may be at another gateway by now, which has
            # then bound its key; if none has, the broker returns the request. Published again once
            # only: the broker may not know yet what the gateway knows.
            outstanding.reported_lost = True
            self._publish(outstanding)
        else:
            outstanding.answer.set_result(delivery)


def _about_another(delivery: Delivery, question: Question) -> bool:
    """Whether it names another station. None is named in the answer to one that cannot be read."""
    named = (delivery.properties.headers or {}).get(STATION_ID)
    return named not in (None, "", question.station_id)


def read_response(delivery: Delivery, version: OcppVersion) -> DataTransferResponse:
    """The response in a reply.

    Raises :class:`~bridge.ocpp.CallError` if it is a CALLERROR, or not a response that OCPP knows.
    """
    reply = read_reply(delivery)
    if reply.kind is Kind.CALL_ERROR:
        try:
            error = decode_call_error(reply.body)
        except ValueError as fault:
            raise CallError(ErrorCode.FORMAT_VIOLATION, str(fault)) from fault
        raise error
    return decode_response(reply.body, version)
