"""Gives a vendor another number of partitions while gateways publish and workers consume.

Another number has other queues (:mod:`bridge.dialects.partitions`), so nothing has to be replaced
in place. But what is published must come to the old queues or to the new ones at every moment, and
never to both, and it is one binding that decides it::

    datatransfer ── key ──→ Q:4:migrating (fanout) ──→ the old way: Q, or the exchange Q:2
                                └── nothing bound ──→ Q:4:migrating-rest ──→ the new way: Q:4

====================  ========================================================================
``prepared``          the new exchange and queues are there, and everything comes to the old ones
                      through an exchange in between
``switched``          the old way is unbound from that exchange: what comes, comes to the new one,
                      which is then bound directly
``drained``           what was in an old queue has been handled by workers that know it, or moved
``done``              old queues that nobody consumes are gone
====================  ========================================================================

Each step can be repeated, and where it was killed is read from what is there.

The vendor's own queue says the number to workers. It is replaced while nothing is routed to it:
after the switch if it was the only one, and before it otherwise, so that whoever starts from then
on knows the new number. That ends the sessions of all its workers.

**Order.** The command holds new queues that are to keep it: it is their active consumer, takes one
message of each, and gives it back when the old queues are drained. So of each station what came
before the switch is handled before what came after it. Workers drain the old queues, nobody else:
what is moved comes behind what came since the switch. So nothing is moved while they may be on
their way back from a session that ended. It cannot keep the order where workers consume the new
queues already, or where nobody consumes the old ones for :data:`BACK_WITHIN`.
"""

import asyncio
import contextlib
import enum
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec

from bridge.dialects.partitions import exchange_label, label_of, own_queue
from bridge.dialects.topology import (
    Exchange,
    ExchangeBinding,
    Purpose,
    Queue,
    QueueBinding,
    Topology,
)
from bridge.rabbitmq.changing import Changes
from bridge.rabbitmq.declaring import refusals
from bridge.rabbitmq.difference import ASIDE, compare_queue
from bridge.rabbitmq.losses import LOST
from bridge.rabbitmq.management import Management, ManagementError
from bridge.rabbitmq.migrating import (
    BACK_WITHIN,
    KEPT_AWAY_EVERY,
    PATIENCE,
    OnStep,
    Outcome,
)
from bridge.rabbitmq.moving import LOOK_EVERY, SETTLE, copy_of, moving, until_empty
from bridge.rabbitmq.replacing import declare_first, replace
from bridge.telemetry.logs import get_logger
from bridge.transport import Binding, Delivery, Publishing, TopologyError, TransportError

log = get_logger("bridge.rabbitmq")

TICK: Final = 6.0
"""Seconds after which the management API's count of a quorum queue is one made since: RabbitMQ
counts every five (``quorum_tick_interval``)."""
HOLD_PRIORITY: Final = 100
"""Of the consumers that hold new queues: from RabbitMQ 4.0 on it counts for a single active
consumer, too."""


class Way(msgspec.Struct, frozen=True):
    """How a vendor's requests are to come to its queues."""

    own: Queue
    """The vendor's own queue."""
    source: Binding
    """Where they come from: the exchange of requests, and the vendor's key."""
    exchange: Exchange | None
    """Of the partitions; None: they come to the vendor's own queue."""
    queues: tuple[Queue, ...]
    bindings: tuple[QueueBinding, ...] = ()
    """Of the partitions to their exchange."""

    @property
    def end(self) -> str:
        """The exchange or queue that is bound to the source."""
        return self.own.name if self.exchange is None else self.exchange.name

    @property
    def label(self) -> str:
        """As names tell the number."""
        return "" if self.exchange is None else exchange_label(self.exchange.name)[1]

    @property
    def gate(self) -> str:
        """The exchange in between."""
        return f"{self.own.name}:{self.label or 1}{ASIDE}"

    @property
    def ordered(self) -> bool:
        """Whether its queues keep the order."""
        return any("x-single-active-consumer" in queue.arguments for queue in self.queues)


def ways_of(topology: Topology, requests: str) -> list[Way]:
    """Of all vendors in a topology. `requests`: the exchange of requests."""
    queues = {queue.name: queue for queue in topology.queues}
    exchanges = {each.name: each for each in topology.exchanges}
    behind: dict[str, list[QueueBinding]] = {}
    for binding in topology.bindings:
        behind.setdefault(binding.exchange, []).append(binding)
    ways = []
    for part in topology.parts:
        if not isinstance(part, QueueBinding | ExchangeBinding) or part.exchange != requests:
            continue
        own = queues[part.guard]
        source = Binding(part.exchange, part.routing_key, part.arguments)
        if isinstance(part, QueueBinding):
            ways.append(Way(own, source, None, (own,)))
            continue
        bindings = tuple(behind.get(part.to, ()))
        partitions = tuple(queues[each.queue] for each in bindings)
        ways.append(Way(own, source, exchanges[part.to], partitions, bindings))
    return ways


class _End(msgspec.Struct, frozen=True):
    """What an exchange leads to."""

    name: str
    is_queue: bool


class _Handled(enum.Enum):
    """How it ended to wait for workers to handle what is in a queue."""

    ALL = enum.auto()
    NOBODY = enum.auto()
    """No worker consumes it."""
    TOO_SLOW = enum.auto()


class Repartitioning:
    """One run over some vendors."""

    def __init__(
        self,
        changes: Changes,
        management: Management,
        vhost: str,
        *,
        prefix: str,
        name: str,
        on_step: OnStep = lambda *_: None,
        patience: float = PATIENCE,
    ) -> None:
        """As :class:`~bridge.rabbitmq.migrating.Migration`.

        `patience`: seconds without progress in which workers have to handle what is in old queues.
        """
        self._changes = changes
        self._management = management
        self._vhost = vhost
        self._prefix = prefix
        self._name = name
        self._on_step = on_step
        self._patience = patience
        self.outcome = Outcome()
        """What is given up is not lost: it is still where it was, and the next run goes on."""

    async def run(self, ways: Sequence[Way]) -> Outcome:
        """Have each vendor's requests go the way they are to, and old queues drained.

        Raises TopologyError if another migration is at work, and TransportError when a connection
        ends; then it can be run again.
        """
        await self._changes.lock(f"{self._prefix}{ASIDE}")
        for way in ways:
            await self._change(way)
        return self.outcome

    async def _change(self, way: Way) -> None:
        name = way.own.name
        old = await self._old_queues(way)
        is_only_one = way.exchange is not None and _End(name, True) in await self._ends(way.source)
        if way.exchange is None and not await self._replace_own(way):
            return  # it is the new one
        await self._declare(way)
        async with self._holding(way, old) as held:  # before anybody may know the new number
            if way.exchange and not is_only_one and not await self._replace_own(way):
                return
            await self._switch(way)
            since = time.monotonic()
            done = not is_only_one or await self._drain_own(way, held=held)
            drained = await asyncio.gather(
                *(self._drain(each, way, since, held=held) for each in old)
            )
            if held:
                self.outcome.held = max(self.outcome.held, time.monotonic() - since)
        await self._remove_exchanges(way)
        if way.exchange and not all(await self._consumers(way)):
            self.outcome.waiting.append(name)
        if done and all(drained):
            self._on_step("done", name, 0)
            self.outcome.migrated.append(name)

    # ---- the steps ----

    async def _declare(self, way: Way) -> None:
        parts = [*([way.exchange] if way.exchange else ()), *way.queues, *way.bindings]
        refused = await refusals(self._changes.connection.connection, parts, passive=False)
        if refused:
            raise TopologyError("; ".join(str(error) for _, error in refused))
        self._on_step("prepared", way.own.name, 0)

    async def _switch(self, way: Way) -> None:
        """From all that the vendor's requests go to now, to where they are to go."""
        changes, gate = self._changes, Binding(way.gate)
        rest = f"{way.gate}-rest"
        ends = await self._ends(way.source)
        between = _End(way.gate, False)
        if between in ends or await changes.has_exchange(way.gate):
            ends |= await self._ends(gate)
        old = ends - {between, _End(way.end, way.exchange is None)}
        if old or between in ends:
            await changes.declare_fanout(rest)
            await self._bind(_End(way.end, way.exchange is None), Binding(rest))
            await changes.declare_fanout(way.gate, {"alternate-exchange": rest})
            if between not in ends:
                for end in old:
                    await self._bind(end, gate)
                await changes.bind_exchange(way.gate, way.source)
            for end in old:
                await self._unbind(end, way.source)
            for end in old:
                await self._unbind(end, gate)
        await self._bind(_End(way.end, way.exchange is None), way.source)
        await changes.unbind_exchange(way.gate, way.source)
        await changes.delete_exchange(way.gate)
        await changes.delete_exchange(rest)
        for end in old:
            if end.name.endswith(ASIDE):  # of a change to another number, which was given up
                await changes.delete_exchange(end.name)
                await changes.delete_exchange(f"{end.name}-rest")
        self._on_step("switched", way.own.name, 0)

    async def _replace_own(self, way: Way) -> bool:
        """Give the vendor's own queue its arguments, while nothing is routed to it."""
        live = await self._management.queue(self._vhost, way.own.name)
        if live is not None and compare_queue(way.own, live) is None:
            return True
        if live is not None:
            if not await self._move(way.own.name, way, time.monotonic()):
                return False
            # What a worker that was quicker has bound gets copies of what comes to the new ones.
            await replace(self._changes, way.own, only_if_empty=live.type == "classic")
        else:
            await declare_first(self._changes, way.own)
        if way.exchange is not None:
            await self._changes.unbind(way.own.name, way.source)
        return True

    async def _drain_own(self, way: Way, *, held: bool) -> bool:
        """It was the vendor's only queue until now."""
        name = way.own.name
        if way.ordered:
            async with self._kept_away(name, way):
                if await self._until_handled(name, way, held=held) is _Handled.TOO_SLOW:
                    return False
        if not await self._replace_own(way):
            return False
        self._on_step("drained", name, 0)
        return True

    async def _drain(self, queue: str, way: Way, since: float, *, held: bool) -> bool:
        """Have what is in an old queue handled or moved, and delete it if nobody consumes it."""
        changes = self._changes
        seen = await changes.look(queue)
        if seen is None:
            return True
        live = await self._management.queue(self._vhost, queue)
        single = live is not None and "x-single-active-consumer" in live.arguments
        handled = _Handled.NOBODY
        if held or (seen.consumers and (single or way.ordered)):
            handled = await self._until_handled(queue, way, held=held)
        if handled is _Handled.TOO_SLOW:
            return False
        if handled is _Handled.ALL:
            self._on_step("drained", queue, 0)
        elif not await self._move(queue, way, since):
            return False
        seen = await changes.look(queue)
        if seen is not None and seen.consumers:
            self.outcome.still_consumed.append(queue)
        elif seen is not None:
            await changes.delete(queue, only_if_empty=live is not None and live.type == "classic")
        return True

    async def _remove_exchanges(self, way: Way) -> None:
        """Delete those of other numbers that lead to no queue."""
        for exchange in await self._management.exchanges(self._vhost, way.own.name):
            own, label = exchange_label(exchange.name)
            if own != way.own.name or label == way.label:
                continue
            if not await self._management.bindings_of_exchange(self._vhost, exchange.name):
                await self._changes.delete_exchange(exchange.name)

    # ---- what they need ----

    async def _old_queues(self, way: Way) -> list[str]:
        found = await self._management.queues(self._vhost, way.own.name)
        wanted = {queue.name for queue in way.queues}
        return sorted(
            queue.name
            for queue in found
            if label_of(queue.name)
            and own_queue(queue.name) == way.own.name
            and queue.name not in wanted
        )

    async def _ends(self, source: Binding) -> set[_End]:
        """What an exchange leads to by a key."""
        found = await self._management.bindings_of_exchange(self._vhost, source.exchange)
        return {
            _End(each.destination, each.destination_type == "queue")
            for each in found
            if each.routing_key == source.routing_key
        }

    async def _bind(self, end: _End, source: Binding) -> None:
        if end.is_queue:
            await self._changes.bind(end.name, source)
        else:
            await self._changes.bind_exchange(end.name, source)

    async def _unbind(self, end: _End, source: Binding) -> None:
        if end.is_queue:
            await self._changes.unbind(end.name, source)
        else:
            await self._changes.unbind_exchange(end.name, source)

    async def _move(self, queue: str, way: Way, since: float) -> bool:
        """Publish what is in a queue anew, until that is empty for good."""

        def anew(delivery: Delivery) -> Publishing:
            return copy_of(
                delivery,
                Purpose.REQUESTS,
                exchange=way.source.exchange,
                routing_key=way.source.routing_key,
            )

        async with moving(self._changes.url, self._name) as mover, self._kept_away(queue, way):
            await mover.consume(queue, anew)
            why = await until_empty(
                mover, self._changes, queue, self._count, since=since, patience=self._patience
            )
            await mover.cancel(queue)
            if mover.moved[queue]:
                self._on_step("moved", queue, mover.moved[queue])
        if why:
            self.outcome.given_up[queue] = why
        return not why

    async def _until_handled(self, queue: str, way: Way, *, held: bool) -> _Handled:
        """Wait until workers have settled what is in a queue that nothing is routed to any more.

        `held`: the order can be kept, so workers that are away are waited for.
        """
        left, progress_at = -1, time.monotonic()
        empty_since: float | None = None
        away_since: float | None = None
        patience = self._patience + TICK + (BACK_WITHIN if held else 0.0)
        while True:
            seen = await self._changes.look(queue)
            now = time.monotonic()
            if seen is None:
                return _Handled.ALL
            if seen.consumers:
                away_since = None
            else:
                away_since = now if away_since is None else away_since
                wait = BACK_WITHIN if seen.ready else SETTLE
                if not held or now - away_since >= wait:
                    if held and seen.ready:
                        self._not_kept(
                            way,
                            f"nobody consumes {queue!r}: what is in it is moved behind what has "
                            "come since the switch",
                        )
                    return _Handled.NOBODY  # whoever follows moves what is there
            if seen.ready:
                empty_since = None
            elif empty_since is None:
                empty_since = now + SETTLE
            count = await self._count(queue)
            if count != left:
                left, progress_at = count, now
            if count == 0 and empty_since is not None and now - empty_since >= TICK:
                return _Handled.ALL
            if now - progress_at > patience:
                self.outcome.given_up[queue] = (
                    f"workers still have requests of it in hand after {self._patience:g} s"
                )
                if held:
                    self.outcome.given_up[queue] += (
                        "; for the sake of order, start none of the new number until it has been "
                        "run again"
                    )
                return _Handled.TOO_SLOW
            await asyncio.sleep(LOOK_EVERY * 5)

    def _not_kept(self, way: Way, reason: str) -> None:
        log.warning("order is not kept during this change", vendor=way.own.name, reason=reason)

    @contextlib.asynccontextmanager
    async def _kept_away(self, queue: str, way: Way) -> AsyncIterator[None]:
        """A worker that comes back binds the vendor's own queue, as long as that is as it knows it.

        What is published would come twice.
        """
        if queue != way.own.name or way.exchange is None:
            yield
            return

        async def keep_away() -> None:
            with contextlib.suppress(*LOST, TransportError):
                while True:
                    await self._changes.unbind(queue, way.source)
                    await asyncio.sleep(KEPT_AWAY_EVERY)

        keeping = asyncio.create_task(keep_away())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait((keeping,))

    @contextlib.asynccontextmanager
    async def _holding(self, way: Way, old: Sequence[str]) -> AsyncIterator[bool]:
        """Have no worker be given what comes to new queues that keep the order, for the block."""
        consumers = await self._consumers(way) if way.ordered else []
        held = [
            queue.name for queue, count in zip(way.queues, consumers, strict=False) if not count
        ]
        if len(held) < len(consumers) and await self._leaves_any(way, old):
            self._not_kept(way, "workers consume the new queues already")
        if not held:
            yield False
            return
        channel = await self._changes.connection.channel(confirms=False)
        await channel.basic_qos(prefetch_count=1)
        for queue_name in held:
            await channel.basic_consume(queue_name, _keep, arguments={"x-priority": HOLD_PRIORITY})
        try:
            yield True
        finally:
            with contextlib.suppress(*LOST):
                await channel.close()  # what is held goes back to its place

    async def _consumers(self, way: Way) -> list[int]:
        """Of each new queue."""
        found = [await self._changes.look(queue.name) for queue in way.queues]
        return [0 if seen is None else seen.consumers for seen in found]

    async def _leaves_any(self, way: Way, old: Sequence[str]) -> bool:
        """Whether older requests are elsewhere than in the new queues, or are still to come."""
        if await self._ends(way.source) != {_End(way.end, way.exchange is None)}:
            return True
        return any([await self._count(queue) for queue in old])

    async def _count(self, queue: str) -> int:
        """Messages of a queue, ready and in hand; -1: it is not known."""
        totals: Mapping[str, int] = {}
        try:
            totals = await self._management.totals(self._vhost, queue)
        except ManagementError as error:
            log.warning("queues cannot be counted", reason=str(error))
        return totals.get(queue, -1)


async def _keep(_: object) -> None:
    """A message of a queue that is held. It is not settled."""
