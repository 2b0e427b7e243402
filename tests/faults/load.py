"""Numbered requests, as a gateway publishes them: plain AMQP by the wire contract.

Nothing of the bridge's client is used. The gateway publishes at a constant rate, each request once:
what the broker did not confirm is noted as unknown and left so. It uses two reply queues by turns
and remembers which request belongs to which; a reply at the wrong one is foreign. It also stands in
for the person who looks after dead letters.
"""

import asyncio
import contextlib
import enum
import itertools
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import aiormq
import aiormq.abc
import msgspec
from pamqp.commands import Basic

from tests.faults.handlers import VENDOR

CONNECT_SECONDS: Final = 3.0
CONFIRM_SECONDS: Final = 3.0
"""How long to wait for a confirm where there is another node to go to: a node that is cut off from
the others may live on and confirm nothing."""
DISCONNECTED_MS: Final = 2000
"""Milliseconds until a reply is delivered again whose first delivery went to a node that died.
RabbitMQ 4.3 waits a minute by default."""
REFUSED_PAUSE: Final = 0.25
"""Seconds from a refused publishing to the next channel."""
STATIONS: Final = 50
WINDOW: Final = 1000
"""Prefetch of each reply queue."""

LOST_CONNECTION: Final = (
    aiormq.exceptions.AMQPError,
    OSError,
    RuntimeError,
    TimeoutError,
    asyncio.InvalidStateError,
)


class Fate(enum.Enum):
    """What the broker said to a request."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    """The connection ended before the confirm: the broker may have the request or not."""
    REFUSED = "refused"


class Answer(msgspec.Struct):
    """A reply as the requester got it."""

    kind: str
    """The AMQP property `type`."""
    body: bytes
    at: float
    """When it came (time.monotonic())."""


class DeadLetter(msgspec.Struct):
    """A request found in the dead-letter queue."""

    reason: str
    redelivered: bool


class Sent(msgspec.Struct):
    """A request of the load, and everything that became of it."""

    number: int
    message: str
    queue: int
    """Which of the two reply queues."""
    answerable: bool
    """Whether an answer is expected: not if `reply_to` is missing or forbidden."""
    deadline: float | None
    """Unix time in seconds."""
    published_at: float = 0.0
    """time.monotonic()."""
    fate: Fate = Fate.PENDING
    answers: list[Answer] = []
    dead: list[DeadLetter] = []
    expired: int = 0
    """How often its answer expired in the reply queue."""
    in_order: bool = False
    """Whether the broker has it for sure before all that were published after it: it was confirmed
    before any of these took another channel."""

    @property
    def ended(self) -> bool:
        return bool(self.answers or self.dead or self.expired)


class Message(msgspec.Struct):
    """A request to be published."""

    body: bytes
    properties: Basic.Properties
    routing_key: str = VENDOR
    exchange: str = "datatransfer"
    message: str = ""
    answerable: bool = True
    deadline: float | None = None


Maker = Callable[["Load", int, str], Message]
"""Makes the request with a number, for a reply queue."""


class Mix:
    """Requests to the fault suite's own vendor: message ids, drawn by weight."""

    def __init__(
        self, weights: dict[str, int], *, patience: float = 120.0, stations: int = STATIONS
    ) -> None:
        """`patience`: seconds until a request's deadline. `stations`: how many take turns."""
        self._messages = list(weights)
        self._weights = list(itertools.accumulate(weights.values()))
        self._patience = patience
        self._stations = stations

    def __call__(self, load: "Load", number: int, reply_to: str) -> Message:
        [message] = load.random.choices(self._messages, cum_weights=self._weights)
        return request(
            load, number, reply_to, VENDOR, message, self._patience, stations=self._stations
        )


def request(
    load: "Load",
    number: int,
    reply_to: str,
    vendor: str,
    message: str,
    patience: float,
    *,
    stations: int = STATIONS,
) -> Message:
    """One request, by the wire contract. `patience`: seconds until its deadline."""
    deadline = time.time() + patience
    properties = Basic.Properties(
        content_type="application/json",
        message_type="DataTransfer",
        correlation_id=load.correlation_id(number),
        message_id=f"{load.name}-{number}",
        reply_to=reply_to,
        expiration=str(int(patience * 1000)),
        delivery_mode=2,
        headers={
            "ocpp-station-id": f"CP{number % stations:03}",
            "ocpp-version": "ocpp2.0.1",
            "ocpp-deadline": int(deadline * 1000),
        },
    )
    body = msgspec.json.encode(
        {"vendorId": vendor, "messageId": message, "data": {"number": number}}
    )
    return Message(body, properties, vendor, message=message, deadline=deadline)


class Load:
    """A gateway at work."""

    def __init__(
        self,
        urls: Sequence[str],
        make: Maker,
        *,
        rate: float,
        seed: int,
        reply_arguments: dict[str, Any] | None = None,
        window: int = WINDOW,
    ) -> None:
        """`rate`: requests per second. `window`: prefetch of each reply queue."""
        self.name = secrets.token_hex(4)
        self.random = random.Random(seed)
        self.sent: dict[int, Sent] = {}
        self.late: set[str] = set()
        """Correlation ids of requests whose deadline had passed, so they got no answer; the
        witness tells."""
        self.foreign: list[str] = []
        """Correlation ids of replies that nobody here asked for, or not at that queue."""
        self.uncorrelated = 0
        """Replies without a correlation id; right if the request had none."""
        self.redelivered_replies = 0
        self.last_answer_at = 0.0
        """time.monotonic()."""
        self.dead_strangers = 0
        """Dead letters whose correlation id is of none of our requests."""
        self.reply_queues = [f"datatransfer.replies.{self.name}-{number}" for number in range(2)]
        self.reading = asyncio.Event()
        self.reading.set()
        self._urls = itertools.cycle(urls)
        self._make = make
        self._period = 1 / rate
        self._window = window
        self._reply_arguments = reply_arguments or {}
        self._numbers = itertools.count(1)
        self._channel: aiormq.abc.AbstractChannel | None = None
        self._connected = asyncio.Event()
        self._refused = asyncio.Event()
        self._stuck = asyncio.Event()
        self._confirm_seconds = CONFIRM_SECONDS if len(urls) > 1 else None
        self._publishing: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._moved = asyncio.Event()
        self.running = asyncio.Event()
        self.troubles: Counter[str] = Counter()
        """Why publishings were not confirmed, and how often."""

    def correlation_id(self, number: int) -> str:
        return f"{self.name}/{number}"

    @property
    def accepted(self) -> list[Sent]:
        """Requests the broker has: it confirmed them, or they came to an end all the same."""
        return [sent for sent in self.sent.values() if sent.fate is Fate.ACCEPTED or sent.ended]

    @property
    def unended(self) -> list[Sent]:
        """Accepted requests that somebody waits for, and that have not come to an end."""
        return [
            sent
            for sent in self.sent.values()
            if sent.fate is Fate.ACCEPTED
            and sent.answerable
            and not sent.ended
            and self.correlation_id(sent.number) not in self.late
        ]

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._stay_connected()),
            asyncio.create_task(self._publish_all()),
        ]
        async with asyncio.timeout(30):
            await self._connected.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks, *self._publishing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def go(self) -> None:
        """Publish from now on."""
        self.running.set()

    def pause(self) -> None:
        self.running.clear()

    async def idle(self, patience: float = 20.0) -> None:
        """Stop publishing, and wait until every request has ended, `patience` seconds at most."""
        self.pause()
        give_up_at = time.monotonic() + patience
        while (self._publishing or self.unended) and time.monotonic() < give_up_at:
            await asyncio.sleep(0.05)

    async def answer_after(self, moment: float) -> float:
        """When the first request published after `moment` was answered (time.monotonic())."""
        while True:
            for sent in reversed(self.sent.values()):
                if sent.published_at < moment:
                    break
                if sent.answers:
                    return min(
                        other.answers[0].at
                        for other in self.sent.values()
                        if other.published_at >= moment and other.answers
                    )
            await asyncio.sleep(0.01)

    # ---- publishing ----

    async def _publish_all(self) -> None:
        await self.running.wait()
        due = time.monotonic()
        while True:
            await self.running.wait()
            await self._connected.wait()
            now = time.monotonic()
            # After a pause, at most a second's worth of requests is made up for.
            due = max(due + self._period, now - 1.0)
            if due > now:
                await asyncio.sleep(due - now)
            if self.running.is_set():
                self.publish_next()

    def publish_next(self, make: Maker | None = None) -> Sent:
        """Publish one request now."""
        number = next(self._numbers)
        queue = number % 2
        message = (make or self._make)(self, number, self.reply_queues[queue])
        sent = Sent(
            number, message.message, queue, message.answerable, message.deadline, time.monotonic()
        )
        self.sent[number] = sent
        task = asyncio.create_task(self._publish(sent, message))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)
        return sent

    async def _publish(self, sent: Sent, message: Message) -> None:
        channel = self._channel
        if channel is None:
            sent.fate = Fate.UNKNOWN
            return
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(self._confirm_seconds):
                confirm = await channel.basic_publish(
                    message.body,
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    properties=message.properties,
                )
        except (Exception, asyncio.CancelledError) as error:
            sent.fate = Fate.UNKNOWN
            self._note_trouble(error)
            if isinstance(error, aiormq.exceptions.DeliveryError):
                sent.fate = Fate.REFUSED
                self._refused.set()
            elif isinstance(error, TimeoutError) and channel is self._channel:
                self._stuck.set()
            # aiormq cancels who waits on a lost connection: only a cancellation of our own goes on.
            if task.cancelling():
                raise
        else:
            sent.fate = Fate.ACCEPTED if isinstance(confirm, Basic.Ack) else Fate.REFUSED
            sent.in_order = channel is self._channel

    def _note_trouble(self, error: BaseException) -> None:
        self.troubles[f"{type(error).__name__}: {error}"[:150]] += 1

    # ---- the connection ----

    async def _stay_connected(self) -> None:
        for url in self._urls:
            connection = aiormq.Connection(url)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await connection.connect()
                    channel = await connection.channel(publisher_confirms=True)
                    replies = await connection.channel(publisher_confirms=False)
                    await self._consume(replies)
                self._channel = channel
                self._connected.set()
                while not await self._end_of(connection, channel, replies):
                    channel = await self._renewed(connection)
            except LOST_CONNECTION as error:
                self._note_trouble(error)
                await asyncio.sleep(0.1)
            finally:
                self._channel = None
                self._connected.clear()
                with contextlib.suppress(*LOST_CONNECTION):
                    async with asyncio.timeout(2):
                        await connection.close()

    async def _end_of(self, *parts: Any) -> bool:
        """Wait until something happens to the connection or its channels.

        True: one of them has ended or confirms nothing, so the connection is to be left. False: the
        broker has refused a publishing.
        """
        self._refused.clear()
        self._stuck.clear()
        events = [asyncio.create_task(event.wait()) for event in (self._refused, self._stuck)]
        try:
            await asyncio.wait(
                [*events, *(part.closing for part in parts)], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for event in events:
                event.cancel()
        return self._stuck.is_set() or any(part.is_closed for part in parts)

    async def _renewed(
        self, connection: aiormq.abc.AbstractConnection
    ) -> aiormq.abc.AbstractChannel:
        """A new channel to publish on, as the wire contract asks after a refused publishing."""
        await asyncio.sleep(REFUSED_PAUSE)
        self._channel = channel = await connection.channel(publisher_confirms=True)
        return channel

    async def _consume(self, channel: aiormq.abc.AbstractChannel) -> None:
        await channel.basic_qos(prefetch_count=self._window)
        await channel.queue_declare(
            "faults.expired", durable=True, arguments={"x-queue-type": "quorum"}
        )
        for number, queue in enumerate(self.reply_queues):
            arguments = {
                "x-queue-type": "quorum",
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "faults.expired",
                "x-consumer-disconnected-timeout": DISCONNECTED_MS,
                **self._reply_arguments,
            }
            await channel.queue_declare(queue, durable=True, arguments=arguments)

            async def on_reply(message: aiormq.abc.DeliveredMessage, number: int = number) -> None:
                await self.reading.wait()
                self._on_reply(number, message)
                await channel.basic_ack(message.delivery_tag or 0, wait=False)

            await channel.basic_consume(queue, on_reply)
        for queue, note in (
            ("datatransfer.dead", self._on_dead),
            ("faults.expired", self._on_expired),
        ):

            async def on_message(
                message: aiormq.abc.DeliveredMessage,
                note: Callable[[aiormq.abc.DeliveredMessage], None] = note,
            ) -> None:
                note(message)
                await channel.basic_ack(message.delivery_tag or 0, wait=False)

            await channel.basic_consume(queue, on_message)

    def find(self, correlation_id: str | None) -> Sent | None:
        """The request with a correlation id, if it is one of ours."""
        name, _, number = (correlation_id or "").partition("/")
        return self.sent.get(int(number)) if name == self.name and number.isdecimal() else None

    def _on_reply(self, queue: int, message: aiormq.abc.DeliveredMessage) -> None:
        properties = message.header.properties
        correlation_id = properties.correlation_id
        if correlation_id is None:
            self.uncorrelated += 1
            return
        sent = self.find(correlation_id)
        if sent is None or sent.queue != queue:
            self.foreign.append(correlation_id)
            return
        if sent.answers and message.redelivered:
            # The same reply again: our acknowledgement was lost.
            self.redelivered_replies += 1
            return
        self.last_answer_at = time.monotonic()
        sent.answers = [
            *sent.answers,
            Answer(str(properties.message_type), message.body, self.last_answer_at),
        ]

    def _on_dead(self, message: aiormq.abc.DeliveredMessage) -> None:
        sent = self.find(message.header.properties.correlation_id)
        if sent is None:
            self.dead_strangers += 1
            return
        if sent.dead and message.redelivered:
            return
        headers = message.header.properties.headers or {}
        reason = headers.get("dtbridge-reason") or headers.get("x-first-death-reason") or "?"
        sent.dead = [*sent.dead, DeadLetter(str(reason), bool(message.redelivered))]

    def _on_expired(self, message: aiormq.abc.DeliveredMessage) -> None:
        sent = self.find(message.header.properties.correlation_id)
        if sent is not None:
            sent.expired += 1
