"""A requester's half of the contract: publish a request, await its answer. For a client and for a gateway, in both directions.

Replies come to a private queue that dies with its connection. So when a connection is lost, every request that has no
answer yet is published again on the next one, with the same OCPP message id; whoever answers it absorbs the
repetition of one that was handled already.
"""

import asyncio
import itertools
import random
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from bridge.backoff import back_off
from bridge.client.errors import NoAnswer, NotAccepted, no_queue
from bridge.dialects.headers import STATION_ID
from bridge.dialects.replies import read_offline, read_reply
from bridge.ocpp import DataTransferResponse, OcppVersion, decode_call_error, decode_response
from bridge.request.outcome import Kind
from bridge.transport import Confirm, Delivery, Publishing, Subscription, Transport

TIMEOUT: Final = 30.0
"""Seconds to wait for an answer. OCPP libraries wait as long."""
REFUSALS: Final = 6
"""Times that a request is published again when the broker refuses it: for three seconds on average, six at most."""
UNROUTED_PAUSE: Final = 1.0
"""Seconds until a patient request is published again that no queue took, at most: a worker that comes up declares its queues, and
then nobody is to wait much longer."""


class Question(msgspec.Struct, frozen=True):
    """What is asked."""

    station_id: str
    """The station that it is about; a reply that names another one is none."""
    publishing: Callable[[str, str], Publishing]
    """Correlation id and reply queue → the message, with what is left of its time. Called for each time it is published."""
    nobody: Callable[[], Exception] = no_queue
    """The error if no queue takes it."""
    patient: bool = False
    """Where no queue takes it: publish it again until its time is over, for there may be one by then."""
    once: bool = False
    """Never publish it twice: whoever it goes to would not absorb the repetition."""
    correlation_id: str | None = None
    """In place of one of the requester's own."""


class _Outstanding:
    """A request without its answer."""

    __slots__ = (
        "again",
        "answer",
        "correlation_id",
        "published",
        "question",
        "refusals",
        "reported_lost",
        "unrouted",
    )

    def __init__(
        self, question: Question, correlation_id: str, answer: "asyncio.Future[Delivery]"
    ) -> None:
        self.question = question
        self.correlation_id = correlation_id
        self.answer = answer
        self.refusals = 0
        self.published = False
        self.unrouted = False
        """No queue took it, the last time."""
        self.reported_lost = False
        """A gateway has said that it has lost the station."""
        self.again: asyncio.TimerHandle | None = None


class Requester:
    """Any number of questions at a time, over a transport that consumes from :attr:`subscription`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._outstanding: dict[str, _Outstanding] = {}
        self._reply_queue: str | None = None
        """Where answers come that were asked for last."""
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._idle = asyncio.Event()
        self.late = 0
        """Replies that nobody waited for: too late, the second to one request, or about another station."""

    @property
    def subscription(self) -> Subscription:
        """No acknowledgements, so no prefetch either: a reply is matched as it comes."""
        return Subscription("", 0, self._on_reply, no_ack=True)

    def __len__(self) -> int:
        """Requests without an answer."""
        return len(self._outstanding)

    def asked(self, correlation_id: str) -> bool:
        """Whether a reply with this correlation id is to a question of this requester's, which may be over."""
        return correlation_id in self._outstanding or correlation_id.startswith(f"{self._prefix}-")

    async def ask(self, question: Question, seconds: float) -> Delivery:
        """Publish, and await the reply.

        Raises :class:`NoAnswer` after so many seconds; :class:`NotAccepted`, or what the question says, if the broker
        will not have it; ValueError for a correlation id that another question has.
        """
        loop = asyncio.get_running_loop()
        correlation_id = question.correlation_id
        if correlation_id is None:
            correlation_id = f"{self._prefix}-{next(self._numbers):x}"
        elif correlation_id in self._outstanding:
            raise ValueError(
                f"a request with the id {correlation_id!r} waits for its answer already"
            )
        outstanding = _Outstanding(question, correlation_id, loop.create_future())
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
        """The transport's state has changed: with another reply queue, ask everything again."""
        queue = self._transport.reply_queue
        if queue is None or queue == self._reply_queue:
            return
        self._reply_queue = queue
        for outstanding in tuple(self._outstanding.values()):
            if not (outstanding.published and outstanding.question.once):
                self._publish(outstanding)

    def close(self) -> None:
        """Nobody waits any more."""
        for outstanding in self._outstanding.values():
            outstanding.answer.cancel()
        self._outstanding.clear()

    def _publish(self, outstanding: _Outstanding) -> None:
        if outstanding.again is not None:
            outstanding.again.cancel()
        reply_to = self._transport.reply_queue
        if reply_to is None or outstanding.answer.done():
            return  # between two connections: sent when the next one is open
        outstanding.published = True

        def on_confirm(confirm: Confirm) -> None:
            if outstanding.answer.done():
                return
            outstanding.unrouted = confirm is Confirm.RETURNED
            if confirm is Confirm.RETURNED:
                self._unrouted(outstanding)
            elif confirm is Confirm.REFUSED:
                self._refused(outstanding)

        self._transport.publish(
            outstanding.question.publishing(outstanding.correlation_id, reply_to), on_confirm
        )

    def _unrouted(self, outstanding: _Outstanding) -> None:
        if outstanding.question.patient:
            self._publish_again_in(random.uniform(UNROUTED_PAUSE / 2, UNROUTED_PAUSE), outstanding)  # noqa: S311 - jitter
        else:
            self._fail(outstanding, outstanding.question.nobody())

    def _refused(self, outstanding: _Outstanding) -> None:
        """A queue whose leader has just gone refuses until it has another; a full one goes on refusing."""
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
            self._fail(outstanding, outstanding.question.nobody())
        else:
            self._fail(outstanding, NoAnswer(f"no answer within {max(seconds, 0):.3g} s"))

    def _fail(self, outstanding: _Outstanding, error: Exception) -> None:
        if not outstanding.answer.done():
            outstanding.answer.set_exception(error)

    def _on_reply(self, delivery: Delivery) -> None:
        outstanding = self._outstanding.get(delivery.properties.correlation_id or "")
        if (
            outstanding is None
            or outstanding.answer.done()
            or _about_another(delivery, outstanding.question)
        ):
            self.late += 1
        elif read_offline(delivery) is False and not outstanding.reported_lost:
            # Nobody has sent it to the station, which may be at another gateway by now: that one has bound its key, and
            # if none has, the request is returned. Once, for the broker may not know yet what the gateway knows.
            outstanding.reported_lost = True
            self._publish(outstanding)
        else:
            outstanding.answer.set_result(delivery)


def _about_another(delivery: Delivery, question: Question) -> bool:
    named = (delivery.properties.headers or {}).get(STATION_ID)
    return named is not None and named != question.station_id


def read_response(delivery: Delivery, version: OcppVersion) -> DataTransferResponse:
    """What a reply says. Raises CallError if that is a CALLERROR, or no response that OCPP knows."""
    reply = read_reply(delivery)
    if reply.kind is Kind.CALL_ERROR:
        raise decode_call_error(reply.body)
    return decode_response(reply.body, version)
