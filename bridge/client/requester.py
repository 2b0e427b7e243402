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
from bridge.compiled import fields
from bridge.dialects.dialect import Dialect, Question
from bridge.dialects.headers import OFFLINE_TYPE, STATION_ID
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
from bridge.request.outcome import Kind, Reply
from bridge.request.wheel import Timed
from bridge.telemetry import ticks
from bridge.telemetry.measures import Tally
from bridge.telemetry.tracing import Tracing
from bridge.transport import (
    Confirm,
    Delivery,
    Properties,
    Publishing,
    Subscription,
    Transport,
)

fields.check((Delivery, Properties))

TIMEOUT: Final = 30.0
"""Seconds to wait for an answer. OCPP libraries wait as long."""
REFUSALS: Final = 6
"""Times that a request is published again after the broker refused it. With the pauses between them
that takes three seconds on average, and six at most."""
UNROUTED_PAUSE: Final = 1.0
"""The longest pause, in seconds, until a patient request is published again that no queue took. A
worker that starts declares its queues, and from then on nobody should wait much longer."""


_CONFIRMED: Final = Confirm.CONFIRMED
_RETURNED: Final = Confirm.RETURNED
"""Names of their own, because a member of an Enum is looked up at each use."""


class Outstanding(Timed):
    """A question without its answer. It may wait in a :class:`~bridge.request.wheel.Wheel`.

    A subclass says how it is published, and is told its end by one of :meth:`answered` and
    :meth:`failed`, once.
    """

    __slots__ = (
        "again",
        "correlation_id",
        "nobody",
        "once",
        "patient",
        "published",
        "refusals",
        "reported_lost",
        "requester",
        "seconds",
        "station_id",
        "unrouted",
    )

    def __init__(
        self,
        station_id: str,
        seconds: float,
        nobody: Callable[[], Exception] = no_queue,
        patient: bool = False,
        once: bool = False,
    ) -> None:
        """`station_id`: a reply that names another one is not the answer.

        `seconds`: how long an answer is waited for, as it is told. `nobody`: makes the error if no
        queue takes it. `patient`: publish such a question again. `once`: never publish it twice.
        """
        Timed.__init__(self)
        self.station_id = station_id
        self.seconds = seconds
        self.nobody = nobody
        self.patient = patient
        self.once = once
        self.correlation_id: str | None = None
        """None: the requester makes one."""
        self.requester: Requester | None = None
        """Who waits for the answer; None: nobody yet, or nobody any more."""
        self.refusals = 0
        self.published = False
        self.unrouted = False
        """No queue took it, the last time."""
        self.reported_lost = False
        """A gateway has said that it has lost the station."""
        self.again: asyncio.TimerHandle | None = None
        """Publishes it again after a pause."""

    def publishing(self, correlation_id: str, reply_to: str) -> Publishing:
        """The message, with what is left of its time. Called each time it is published."""
        raise NotImplementedError

    def answered(self, delivery: Delivery) -> None:
        """It has its answer. Must not raise."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """It will have none. Must not raise."""
        raise NotImplementedError

    def out_of_time(self) -> None:
        """Its time is over: it fails, unless it has ended."""
        requester = self.requester
        if requester is None:
            return
        if self.unrouted:
            requester.fail(self, self.nobody())
        else:
            requester.fail(self, NoAnswer(f"no answer within {max(self.seconds, 0):.3g} s"))

    def confirmed(self, confirm: Confirm) -> None:
        """What became of its publishing."""
        requester = self.requester
        if requester is None:
            return
        self.unrouted = confirm is _RETURNED
        if confirm is not _CONFIRMED:
            requester.not_confirmed(self, confirm)


class _Awaited(Outstanding):
    """A question whose answer a coroutine awaits."""

    __slots__ = ("_answer", "_publishing")

    def __init__(
        self,
        question: Question,
        seconds: float,
        nobody: Callable[[], Exception],
        patient: bool,
        answer: "asyncio.Future[Delivery]",
    ) -> None:
        Outstanding.__init__(self, question.station_id, seconds, nobody, patient, question.once)
        self.correlation_id = question.correlation_id
        self._publishing = question.publishing
        self._answer = answer

    def publishing(self, correlation_id: str, reply_to: str) -> Publishing:
        return self._publishing(correlation_id, reply_to)

    def answered(self, delivery: Delivery) -> None:
        if not self._answer.done():
            self._answer.set_result(delivery)

    def failed(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


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
        self._read_reply = self._dialect.read_station_reply
        self._overhears = bool(self._dialect.station_replies)
        """Whether the answers to others come to the same queue."""
        self.outstanding: dict[str, Outstanding] = {}
        """Questions without an answer, by correlation id."""
        self._reply_queue: str | None = None
        """The queue that the latest questions are answered to."""
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._idle = asyncio.Event()
        self._awaits_idle = False
        """Somebody has waited until nothing is outstanding."""
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
        return len(self.outstanding)

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
        answer: asyncio.Future[Delivery] = loop.create_future()
        asked = _Awaited(question, seconds, nobody, patient, answer)
        timer = loop.call_later(seconds, self._time_out, asked)
        try:
            self.start(asked)
            return await answer
        finally:
            timer.cancel()
            self.withdraw(asked)
            del answer  # which may hold an error, whose traceback holds this frame

    def _time_out(self, asked: Outstanding) -> None:
        asked.out_of_time()

    def start(self, asked: Outstanding) -> None:
        """Ask a question. It is told its end, which may be at once.

        The caller sees to its time: :meth:`Outstanding.out_of_time`. Raises ValueError, and does
        nothing, if it has the correlation id of another one that is outstanding.
        """
        correlation_id = asked.correlation_id
        if correlation_id is None:
            correlation_id = f"{self._prefix}-{next(self._numbers):x}"
            asked.correlation_id = correlation_id
        elif correlation_id in self.outstanding:
            raise ValueError(
                f"a request with the id {correlation_id!r} waits for its answer already"
            )
        asked.requester = self
        self.outstanding[correlation_id] = asked
        self._publish(asked)

    def withdraw(self, asked: Outstanding) -> None:
        """Nobody wants the answer to a question any more, or it has come: it is told nothing."""
        if asked.requester is None:
            return
        asked.requester = None
        again = asked.again
        if again is not None:
            again.cancel()
            asked.again = None
        del self.outstanding[asked.correlation_id or ""]
        if self._awaits_idle and not self.outstanding:
            self._idle.set()

    def fail(self, asked: Outstanding, error: Exception) -> None:
        """A question that is outstanding will have no answer."""
        self.withdraw(asked)
        asked.failed(error)

    async def idle(self) -> None:
        """Wait until every question has its answer."""
        self._awaits_idle = True
        while self.outstanding:
            self._idle.clear()
            await self._idle.wait()

    def on_state(self) -> None:
        """Look whether the transport has another reply queue, and if so ask everything again."""
        queue = self._transport.reply_queue
        if queue is None or queue == self._reply_queue:
            return
        self._reply_queue = queue
        for asked in tuple(self.outstanding.values()):
            if not (asked.published and asked.once):
                self._publish(asked)

    def close(self) -> None:
        """Tell all who still wait that there will be no answer.

        Also those who ask because others have been told.
        """
        while self.outstanding:
            asked = next(iter(self.outstanding.values()))
            self.fail(asked, NoAnswer("no answer came before the connection was closed"))

    def _publish(self, asked: Outstanding) -> None:
        """Publish a question, unless it has ended. What cannot be published fails."""
        if asked.requester is None:
            return
        again = asked.again
        if again is not None:
            again.cancel()
            asked.again = None
        reply_to = self._transport.reply_queue
        if reply_to is None:
            return  # between two connections: it is sent when the next one is open
        asked.published = True
        try:
            self._transport.publish(
                asked.publishing(asked.correlation_id or "", reply_to), asked.confirmed
            )
        except Exception as error:  # noqa: BLE001 - it costs this question, and no other
            if asked.requester is not None:
                self.fail(asked, error)

    def not_confirmed(self, asked: Outstanding, confirm: Confirm) -> None:
        """Do what there is to be done if the broker has not taken a question."""
        if confirm is Confirm.RETURNED:
            self._unrouted(asked)
        elif confirm is Confirm.REFUSED:
            self._refused(asked)
        elif confirm is Confirm.IMPOSSIBLE:
            text = "the broker does not take the request: it is larger than the broker allows"
            self.fail(asked, NotAccepted(text))

    def _unrouted(self, asked: Outstanding) -> None:
        if asked.patient:
            pause = random.uniform(UNROUTED_PAUSE / 2, UNROUTED_PAUSE)
            self._publish_again_in(pause, asked)
        else:
            self.fail(asked, asked.nobody())

    def _refused(self, asked: Outstanding) -> None:
        """A queue without a leader refuses until it has another. A full one keeps refusing."""
        asked.refusals += 1
        if asked.refusals > REFUSALS or asked.once:
            self.fail(asked, NotAccepted("the broker refuses the request: its queue is full"))
        else:
            self._publish_again_in(back_off(asked.refusals), asked)

    def _publish_again_in(self, seconds: float, asked: Outstanding) -> None:
        if asked.again is not None:
            asked.again.cancel()
        asked.again = asyncio.get_running_loop().call_later(seconds, self._publish, asked)

    def _on_delivery(self, delivery: Delivery) -> None:
        reply = self._read_reply(delivery)
        if reply is not None and (not self._overhears or self._is_ours(reply)):
            self._on_reply(reply)

    def _is_ours(self, reply: Delivery) -> bool:
        """Whether a reply is to a question of this requester, which may be over."""
        correlation_id = reply.properties.correlation_id or ""
        return correlation_id in self.outstanding or correlation_id.startswith(f"{self._prefix}-")

    def _on_reply(self, delivery: Delivery) -> None:
        properties = delivery.properties
        asked = self.outstanding.get(properties.correlation_id or "")
        if asked is None or _about_another(properties, asked.station_id):
            self.late += 1
        elif (
            properties.type == OFFLINE_TYPE
            and not asked.reported_lost
            and read_offline(delivery) is False
        ):
            # The station was not sent the request. It may be at another gateway by now, which has
            # then bound its key; if none has, the broker returns the request. Published again once
            # only: the broker may not know yet what the gateway knows.
            asked.reported_lost = True
            self._publish(asked)
        else:
            self.withdraw(asked)
            asked.answered(delivery)


def _about_another(properties: Properties, station_id: str) -> bool:
    """Whether it names another station. None is named in the answer to one that cannot be read."""
    headers = properties.headers
    if headers is None:
        return False
    named = headers.get(STATION_ID)
    return named != station_id and named not in (None, "")


def read_response(delivery: Delivery, version: OcppVersion) -> DataTransferResponse:
    """The response in a reply.

    Raises :class:`~bridge.ocpp.CallError` if it is a CALLERROR, or not a response that OCPP knows.
    """
    return response_of(read_reply(delivery), version)


def response_of(reply: Reply, version: OcppVersion) -> DataTransferResponse:
    """The response that a reply is. Raises as :func:`read_response`."""
    if reply.kind is Kind.CALL_ERROR:
        try:
            error = decode_call_error(reply.body)
        except ValueError as fault:
            raise CallError(ErrorCode.FORMAT_VIOLATION, str(fault)) from fault
        raise error
    return decode_response(reply.body, version)
