"""Which vendors are paused, as a worker's session learns it from the broker.

A vendor is paused while the exchange ``datatransfer-paused`` is bound to the queue of that name by
the vendor's key. A binding is as durable as the queues of requests are, it is made and removed in
one step, and to make it twice is to make it once (decision 9). AMQP has no way to look at one. But
a mandatory publishing tells: what is published with the key of a vendor that is not paused finds no
queue, and is returned. That takes no other right than to write to the exchange.

A worker asks so for each of its vendors when a session opens, before it consumes; when somebody
says by the exchange ``datatransfer-control`` that something has changed; and from time to time,
because whoever paused a vendor may have been killed before saying so, or the worker may not be
allowed to listen.

What is not known is not consumed: while the broker takes no publishings, say. But a worker that
cannot ask at all, because a right or an exchange is missing, goes on as if nothing were paused, and
says so.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import aiormq

from bridge.dialects.topology import Exchange, Mode, Topology
from bridge.rabbitmq.connection import Connection
from bridge.rabbitmq.consumers import Consumers
from bridge.rabbitmq.declaring import refusals
from bridge.rabbitmq.delivery import Pending
from bridge.rabbitmq.losses import LOST, explain, losses_as_errors
from bridge.rabbitmq.publishing import PublishLane
from bridge.telemetry.logs import get_logger
from bridge.transport import Confirm, Properties, Publishing, TransportError

log = get_logger("bridge.rabbitmq")

KNOWN_WITHIN: Final = 5.0
"""Seconds that the opening of a session waits to know what is paused. Then what is known is
consumed, and the rest later."""
LOOK_EVERY: Final = 10.0
"""Seconds between two looks of a worker that listens."""
LOOK_OFTEN: Final = 1.0
"""Seconds between two looks of a worker that may not listen."""
PER_KEY: Final = 0.02
"""Seconds more for each key: a fleet of a hundred workers with a thousand vendors each has the
broker answer 5,000 questions a second."""
TRY_EVERY: Final = 60.0
"""Seconds until a worker that cannot ask tries again."""
HINTS: Final = 1_000
"""Hints that wait to be read, at most."""

_QUESTION: Final = Properties(delivery_mode=1)


class Pauses:
    """What a transport knows, from one session to the next."""

    def __init__(
        self, topology: Topology, keys: Iterable[str], on_pause: Callable[[str, bool], None]
    ) -> None:
        """`topology`: exchanges and queue of pauses. `on_pause`: see
        :meth:`~bridge.transport.Transport.watch_pauses`.
        """
        self.topology = topology
        self.keys = frozenset(keys)
        self.paused: set[str] = set()
        """As `on_pause` was told."""
        self.off = ""
        """Why nobody can ask, as far as the log has it."""
        self._on_pause = on_pause
        self.questions, self.hints = (
            part.name for part in topology.parts if isinstance(part, Exchange)
        )
        """Names of the exchanges."""

    def tell(self, key: str, *, paused: bool) -> None:
        """Tell the listener, if that is new."""
        if paused != (key in self.paused):
            (self.paused.add if paused else self.paused.discard)(key)
            self._on_pause(key, paused)


class PauseWatch:
    """Asks and listens for one session, and stops and starts its consumers."""

    def __init__(self, pauses: Pauses, consumers: Consumers, end: Callable[[str], None]) -> None:
        """`end`: called with the reason if a consumer cannot be stopped or started."""
        self._pauses = pauses
        self._consumers = consumers
        self._end = end
        self._answers: dict[str, bool] = {}
        """Whether a key is paused, as the broker said last. Without one, it is not consumed."""
        self._asking: set[str] = set()
        """Keys whose question is on its way."""
        self._again: set[str] = set()
        """Those of them that are asked again then: something has changed meanwhile."""
        self._all_known = asyncio.Event()
        self._changed: set[str] = set()
        """Keys whose answer has changed since it was followed."""
        self._news = asyncio.Event()
        """Some have, or there is another reason to go on."""
        self._lane: PublishLane | None = None
        self._channel = 0
        """Its number; 0: it has never had one."""
        self._listens = False
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def open(self, publishing: Connection, consuming: Connection) -> None:
        """Ask for all keys, and wait for the answers, for a while.

        `publishing`: the connection for what is published; an alarm stops it. `consuming`: the
        other. Raises what the libraries raise when a connection is lost.
        """
        self._publishing = publishing
        await self._declare()
        await self._listen(consuming)
        await self._open_lane()
        self.look(self._pauses.keys)
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(KNOWN_WITHIN):
                await self._all_known.wait()
        for key, paused in self._answers.items():
            self._pauses.tell(key, paused=paused)

    def holds(self, key: str) -> bool:
        """Whether what has this key is not to be consumed now. Nothing holds the empty key."""
        return key in self._pauses.keys and self._answers.get(key, True)

    def wait_no_more(self) -> None:
        """The broker takes no publishings: there will be no answer for now."""
        self._all_known.set()

    def start(self) -> None:
        """Stop and start consumers from now on, and look from time to time."""
        self._changed |= self._answers.keys()
        self._task = asyncio.create_task(self._keep(), name="dtbridge-pauses")

    async def finish(self) -> None:
        """Leave the consumers as they are, once the broker has answered for the one in hand.

        A question of the library that is cancelled would close the channel, with all deliveries.
        """
        self._stopping = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait((self._task,))

    def stop(self) -> None:
        """The session is over."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    # ---- asking ----

    def look(self, keys: Iterable[str]) -> None:
        """Ask the broker. A key is asked once at a time."""
        if self._lane is None:
            return
        for key in keys:
            if key in self._asking:
                self._again.add(key)
                continue
            self._asking.add(key)
            question = Publishing(key, b"", _QUESTION, self._pauses.questions, mandatory=True)
            self._lane.publish(question, Pending(question, partial(self._answered, key)))

    def _answered(self, key: str, confirm: Confirm) -> None:
        if self._lane is None or confirm is Confirm.LOST:
            return
        self._asking.discard(key)
        if confirm is Confirm.CONFIRMED or confirm is Confirm.RETURNED:
            # It was refused otherwise: the queue that it has found has no leader, say.
            paused = confirm is Confirm.CONFIRMED
            if self._answers.get(key) is not paused:
                self._answers[key] = paused
                self._changed.add(key)
                self._news.set()
            if self._pauses.off:
                self._pauses.off = ""
                log.info("vendors can be paused", exchange=self._pauses.questions)
        if key in self._again:
            self._again.discard(key)
            self.look((key,))
        if not self._asking:
            self._all_known.set()

    async def _declare(self) -> None:
        """What the broker refuses shows when it is used."""
        if self._pauses.topology.mode is Mode.DECLARE:
            parts = self._pauses.topology.parts
            await refusals(self._publishing.connection, parts, passive=False)

    async def _open_lane(self) -> None:
        try:
            channel = await self._publishing.channel(confirms=True)
        except TransportError as error:
            self._is_off(str(error))
            return
        lane = PublishLane(
            channel.number,
            self._publishing.outbox,
            self._publishing.encoder,
            on_end=self._is_off,
            on_returned=lambda: None,
            on_refused=lambda: None,
        )
        self._publishing.protocol.register(channel.number, lane)
        self._lane, self._channel = lane, channel.number

    def _is_off(self, reason: str) -> None:
        """Nobody can ask. What was paused stays so, and nothing else is held."""
        if self._lane is not None:
            self._lane.close()
            self._lane = None
        self._asking.clear()
        self._again.clear()
        for key in self._pauses.keys - self._answers.keys():
            self._answers[key] = key in self._pauses.paused
            self._changed.add(key)
        if not self._pauses.off:
            log.warning(
                "vendors cannot be paused",
                reason=reason,
                hint="a worker needs the right to write to the exchange, and the exchange; "
                "it is tried again from time to time",
                exchange=self._pauses.questions,
            )
        self._pauses.off = reason
        self._all_known.set()
        self._news.set()

    # ---- listening ----

    async def _listen(self, consuming: Connection) -> None:
        """Have a queue of our own bound to the exchange of hints."""
        queue = f"{self._pauses.hints}.{secrets.token_hex(8)}"
        try:
            channel = await consuming.channel(confirms=False)
            await channel.queue_declare(
                queue, exclusive=True, auto_delete=True, arguments={"x-max-length": HINTS}
            )
            await channel.queue_bind(queue, self._pauses.hints)
            await channel.basic_consume(queue, self._on_hint, no_ack=True)
        except (aiormq.exceptions.AMQPChannelError, TransportError) as error:
            log.info(
                "pauses are looked for, and not told",
                reason=explain(error),
                seconds=self._pause_between_looks(),
            )
        else:
            self._listens = True

    async def _on_hint(self, message: aiormq.abc.DeliveredMessage) -> None:
        """Its routing key says which vendor; whatever names none of ours is for others."""
        key = message.routing_key
        if not key:
            self.look(self._pauses.keys)
        elif key in self._pauses.keys:
            self.look((key,))

    def _pause_between_looks(self) -> float:
        every = LOOK_EVERY if self._listens else LOOK_OFTEN
        return every + PER_KEY * len(self._pauses.keys)

    # ---- stopping and starting ----

    async def _keep(self) -> None:
        try:
            with losses_as_errors():
                while not self._stopping:
                    self._news.clear()
                    await self._follow()
                    await self._wait()
        except LOST as error:
            self._end(f"a consumer could not be stopped or started: {explain(error)}")
        except (TransportError, aiormq.exceptions.AMQPChannelError) as error:
            self._end(str(error))

    async def _follow(self) -> None:
        """Consume what is not paused, and only that."""
        while self._changed and not self._stopping:
            key = self._changed.pop()
            if self._answers[key]:
                for consumer in self._consumers.of(key):
                    await self._consumers.pause(consumer)
                self._pauses.tell(key, paused=True)
            else:
                self._pauses.tell(key, paused=False)
                for consumer in self._consumers.of(key):
                    await self._consumers.resume(consumer)

    async def _wait(self) -> None:
        """For news; or look, when it is time."""
        seconds = self._pause_between_looks() if self._lane is not None else TRY_EVERY
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(random.uniform(seconds / 2, seconds)):
                await self._news.wait()
                return
        if self._lane is None:
            self._publishing.protocol.unregister(self._channel)
            await self._declare()
            await self._open_lane()
        self.look(self._pauses.keys)
