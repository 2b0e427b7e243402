"""Gives a queue other arguments while gateways publish and workers consume.

A queue's arguments never change: it must be deleted and declared anew. Meanwhile its requests need
another place, and at every moment each must have exactly one: with none, a request would be
answered UnknownVendorId, and with two it would be handled twice. Two exchanges see to that::

    datatransfer ── key ──→ Q:migrating (fanout) ──→ Q
                                └── no queue bound ──→ Q:migrating-rest ──→ Q:migrating (a queue)

What is published goes the same way as before as long as Q is bound, and once only: RabbitMQ gives a
queue that is reached in two ways one copy. To take that one binding away, or to make it, sends
everything that comes to the one queue or to the other at a stroke, because an exchange that finds
no queue uses its alternate exchange. So the steps are:

====================  ========================================================================
``prepared``          the exchanges and the queue beside are there, and everything comes to Q
                      through them
``switched``          Q is unbound: what comes waits beside
``emptied``           workers have settled what they had in hand, the rest has been moved beside,
                      and Q is known to be empty (:mod:`bridge.rabbitmq.moving`)
``replaced``          Q is deleted and declared with its new arguments, and something else has its
                      name in between (:mod:`bridge.rabbitmq.replacing`). Its consumers are
                      cancelled: workers end their session and come back
``switched back``     Q is bound: what comes, comes to Q
``moved back``        what has waited beside is in Q
``done``              Q is bound as it was, and everything beside is gone
====================  ========================================================================

Each step can be repeated. A migration that was killed is taken up where what is there shows that it
was (``taken up``). If workers do not settle in time, it is ``given up``: Q is bound again, what
waited beside comes into it (``moved back``), and everything is ``as it was``.

What it cannot help: a worker that starts in mode declare in the middle of it binds Q directly, so
that what is published from ``switched`` to ``switched back`` comes to both queues. Nothing is lost
by that, but some is handled twice.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import msgspec

from bridge.dialects.topology import UNLIMITED, Purpose, Queue
from bridge.rabbitmq.changing import Changes
from bridge.rabbitmq.difference import ASIDE, compare_queue
from bridge.rabbitmq.losses import LOST
from bridge.rabbitmq.management import LiveQueue, Management, ManagementError
from bridge.rabbitmq.moving import LOOK_EVERY, Mover, copy_of, moving, until_empty, until_moved
from bridge.rabbitmq.replacing import declare_first, replace
from bridge.telemetry.logs import get_logger
from bridge.transport import Binding, Delivery, Publishing, TopologyError, TransportError

log = get_logger("bridge.rabbitmq")

PATIENCE: Final = 20.0
"""Seconds in which workers must settle what they have in hand. Meanwhile requests wait."""
BATCH: Final = 32
"""Queues that are migrated at a time. Workers come back once for all of them."""
BACK_WITHIN: Final = 10.0
"""Seconds in which workers come back to a queue. Until they have, the next queues wait: a worker
that comes back binds all its queues."""
KEPT_AWAY_EVERY: Final = 0.5
"""Seconds between two times that bindings are taken back which a worker may have made."""
TOGETHER: Final = 60_000
"""Milliseconds: delay queues whose requests wait no longer are migrated together."""
DAY: Final = 86_400.0
"""Seconds."""
NAME_MAX: Final = 255
"""Bytes of a name."""

STEPS: Final = (
    "prepared",
    "switched",
    "emptied",
    "deleted",
    "replaced",
    "switched back",
    "moved back",
    "done",
)

OnStep = Callable[[str, str, int], None]
"""Told of each step: its name, the queue, and how many messages it has moved. Besides
:data:`STEPS` there are ``taken up``, ``given up`` and ``as it was``."""


def aside(queue: str) -> str:
    """How everything is named that a migration of a queue makes; `-rest` may follow."""
    if len(queue) + len(ASIDE) + len("-rest") > NAME_MAX:
        queue = f"{queue[:150]}_x{hashlib.sha256(queue.encode()).hexdigest()}"
    return queue + ASIDE


class Task(msgspec.Struct):
    """One queue, and how far it is."""

    wanted: Queue
    live: LiveQueue | None
    sources: list[Binding]
    """What the queue is bound to."""
    taken_up: bool = False
    """An interrupted run has begun with it."""
    waited_since: float = 0.0
    """When what is published began to wait, by the monotonic clock."""
    oldest: float | None = None
    """When the oldest request was published that waited beside, if any says so: Unix time."""
    consumers: int = 0
    """Consumers of the queue before it was deleted."""

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def beside(self) -> str:
        return aside(self.name)

    @property
    def rest(self) -> str:
        return f"{self.beside}-rest"

    @property
    def way(self) -> Binding:
        """The binding that decides where everything goes."""
        return Binding(self.beside)

    def to_rest(self, delivery: Delivery) -> Publishing:
        """A message of the queue, on its way beside."""
        return copy_of(delivery, self.wanted.purpose, exchange=self.rest)

    def back(self, delivery: Delivery) -> Publishing:
        """A message that waited beside, on its way back.

        Requests go by the default exchange, which is a way that workers know and a replay may use.
        """
        if self.wanted.purpose is Purpose.REQUESTS:
            if (published := delivery.properties.timestamp) is not None:
                self.oldest = min(published, self.oldest or published)
            return copy_of(delivery, Purpose.REQUESTS, exchange="", routing_key=self.name)
        return copy_of(delivery, self.wanted.purpose, exchange=self.beside)


class Outcome(msgspec.Struct):
    """What became of the queues."""

    migrated: list[str] = []
    given_up: dict[str, str] = {}
    """Queues that are as they were, and why."""
    waited: float | None = None
    """Seconds that requests of a queue waited, at most: from the moment when they were sent beside
    until all of them were back, whether it was migrated or given up. None: none were sent."""
    found: int = 0
    """Requests that an interrupted run had left beside, and that this one has brought back. They
    had waited for longer."""
    found_age: float | None = None
    """Seconds since the oldest of them was published; None: they do not say."""
    held: float = 0.0
    """Seconds that new partitions were held, at most, for those before them to be drained."""
    still_consumed: list[str] = []
    """Partitions of another number, which are empty, and which workers consume."""
    waiting: list[str] = []
    """Vendors, by their own queues, with partitions that no worker consumes yet."""


class Migration:
    """One run over some queues."""

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
        """`patience`: seconds that workers have to settle what they have in hand."""
        self._changes = changes
        self._management = management
        self._vhost = vhost
        self._prefix = prefix
        self._name = name
        self._on_step = on_step
        self._patience = patience
        self._counting: asyncio.Task[Mapping[str, int]] | None = None
        self.outcome = Outcome()

    async def run(self, queues: Sequence[Queue]) -> Outcome:
        """Migrate those of the queues that are not what they must be, and what was interrupted.

        A queue that is not there and was not being migrated is left to whoever declares it. Raises
        TopologyError if another migration is at work, and TransportError when a connection ends;
        then it can be run again.
        """
        await self._changes.lock(f"{self._prefix}{ASIDE}")
        for batch in _batches(queues):
            tasks = [task for queue in batch if (task := await self._task(queue)) is not None]
            if tasks:
                await self._migrate(tasks)
        return self.outcome

    async def _task(self, queue: Queue) -> Task | None:
        """None if there is nothing to do."""
        live = await self._management.queue(self._vhost, queue.name)
        beside = aside(queue.name)
        begun = await self._changes.has_exchange(beside)
        left = await self._changes.look(beside) is not None
        if not begun and not left and (live is None or compare_queue(queue, live) is None):
            return None
        bindings = await self._management.bindings_of_queue(self._vhost, queue.name)
        bindings += await self._management.bindings_to_exchange(self._vhost, beside)
        sources = {
            (each.source, each.routing_key, str(each.arguments)): Binding(
                each.source, each.routing_key, each.arguments or None
            )
            for each in bindings
            if each.source != beside
        }
        if live is not None and (why := _impossible(live)):
            self.outcome.given_up[queue.name] = why
            return None
        return Task(queue, live, list(sources.values()), taken_up=begun or left)

    def _differs(self, task: Task) -> bool:
        return task.live is not None and compare_queue(task.wanted, task.live) is not None

    async def _migrate(self, tasks: list[Task]) -> None:
        for task in tasks:
            if task.taken_up:
                self._on_step("taken up", task.name, 0)
            await self._prepare(task)
        old = [task for task in tasks if self._differs(task)]
        ready = [task for task in tasks if not self._differs(task)]
        if old:
            await self._come_back(old)  # what an interrupted run has left beside waits no longer
            ready += await self._empty(old)
        for error in await asyncio.gather(*map(self._replace, ready), return_exceptions=True):
            if error is not None:  # when no other queue is half replaced any more
                raise error
        await self._come_back(ready)
        for task in ready:
            await self._finish(task)
            self.outcome.migrated.append(task.name)
        await self._until_back(ready)

    # ---- the steps ----

    async def _prepare(self, task: Task) -> None:
        changes = self._changes
        if await changes.look(task.beside) is None:
            await changes.declare(_queue_beside(task))
        await changes.declare_fanout(task.rest)
        await changes.bind(task.beside, Binding(task.rest))
        await changes.declare_fanout(task.beside, {"alternate-exchange": task.rest})
        if task.live is not None:
            await changes.bind(task.name, task.way)
        for source in task.sources:
            await changes.bind_exchange(task.beside, source)
        for source in task.sources:
            await changes.unbind(task.name, source)
        self._on_step("prepared", task.name, 0)

    async def _empty(self, tasks: Sequence[Task]) -> list[Task]:
        """Those whose queue is empty now. The others are as they were."""
        emptied: list[Task] = []
        async with self._mover(tasks) as mover:
            try:
                for task in tasks:
                    await self._changes.unbind(task.name, task.way)
                    task.waited_since = time.monotonic()
                    self._on_step("switched", task.name, 0)
                    await mover.consume(task.name, task.to_rest)
                whys = await self._until_empty(mover, tasks)
            except BaseException:
                # At least what is published from now on waits no longer.
                with contextlib.suppress(*LOST, TransportError):
                    for task in tasks:
                        await self._changes.bind(task.name, task.way)
                raise
            for task, why in zip(tasks, whys, strict=True):
                await mover.cancel(task.name)
                if not why:
                    emptied.append(task)
                    self._on_step("emptied", task.name, mover.moved[task.name])
                    continue
                await self._changes.bind(task.name, task.way)
                self.outcome.given_up[task.name] = why
                self._on_step("given up", task.name, 0)
        back = [task for task in tasks if task not in emptied]
        if back:
            await self._come_back(back)
            for task in back:
                await self._finish(task, "as it was")
        return emptied

    async def _until_empty(self, mover: Mover, tasks: Sequence[Task]) -> list[str]:
        """Why each queue cannot be emptied, or an empty text."""
        keeping_away = asyncio.create_task(self._keep_away(tasks))
        try:
            return await asyncio.gather(
                *(
                    until_empty(
                        mover,
                        self._changes,
                        task.name,
                        self._count,
                        since=task.waited_since,
                        patience=self._patience_with(task.wanted),
                    )
                    for task in tasks
                )
            )
        finally:
            keeping_away.cancel()
            await asyncio.wait((keeping_away,))

    async def _keep_away(self, tasks: Sequence[Task]) -> None:
        """A worker that comes back binds its queues: what is published would come twice."""
        with contextlib.suppress(*LOST, TransportError):
            while True:
                await asyncio.sleep(KEPT_AWAY_EVERY)
                for task in tasks:
                    for source in task.sources:
                        await self._changes.unbind(task.name, source)

    def _patience_with(self, queue: Queue) -> float:
        """Workers hold what waits for its next try until its pause is over."""
        if queue.purpose is not Purpose.RETRY:
            return self._patience
        pause: int = queue.arguments.get("x-message-ttl", 0)
        return max(self._patience, pause / 1000)

    async def _replace(self, task: Task) -> None:
        changes = self._changes
        if self._differs(task):
            seen = await changes.look(task.name)
            task.consumers = 0 if seen is None else seen.consumers
            # What a worker that was quicker has let into its queue is a copy of what waits beside.
            await replace(
                changes,
                task.wanted,
                only_if_empty=task.live is not None and task.live.type == "classic",
                on_deleted=lambda: self._on_step("deleted", task.name, 0),
            )
            self._on_step("replaced", task.name, 0)
        elif task.live is None:
            await declare_first(changes, task.wanted)
            self._on_step("replaced", task.name, 0)
        await changes.bind(task.name, task.way)
        self._on_step("switched back", task.name, 0)

    async def _come_back(self, tasks: Sequence[Task]) -> None:
        """Move what waits beside into its queue, which is bound."""
        waiting = [
            task
            for task in tasks
            if (seen := await self._changes.look(task.beside)) is not None
            and (seen.ready or task.waited_since)
        ]
        if not waiting:
            return
        since = time.monotonic()
        async with self._mover(waiting) as mover:
            for task in waiting:
                await mover.consume(task.beside, task.back)
            for task in waiting:
                why = await until_moved(mover, self._changes, task.beside, since=since)
                if why:
                    raise TopologyError(f"queue {task.beside!r} cannot be moved back: {why}")
                await mover.cancel(task.beside)
                self._note(task, mover.moved[task.beside])
                self._on_step("moved back", task.name, mover.moved[task.beside])

    def _note(self, task: Task, moved: int) -> None:
        """How long requests have waited that are back now. Nobody waits for what is not one."""
        outcome = self.outcome
        if task.wanted.purpose is not Purpose.REQUESTS:
            return
        if task.waited_since:
            outcome.waited = max(outcome.waited or 0.0, time.monotonic() - task.waited_since)
            return
        outcome.found += moved
        age = 0.0 if task.oldest is None else time.time() - task.oldest
        if 0 < age < DAY:  # what a sender says of the time is not always one
            outcome.found_age = max(age, outcome.found_age or 0.0)

    async def _finish(self, task: Task, step: str = "done") -> None:
        changes = self._changes
        for source in task.sources:
            await changes.bind(task.name, source)
        for source in task.sources:
            await changes.unbind_exchange(task.beside, source)
        await changes.delete_exchange(task.beside)
        await changes.delete_exchange(task.rest)
        seen = await changes.look(task.beside)
        if seen is not None and seen.ready == 0:
            await changes.delete(task.beside, only_if_empty=False)  # nothing leads there now
        elif seen is not None:
            raise TopologyError(
                f"queue {task.beside!r} holds {seen.ready} messages that came late; run it again"
            )
        self._on_step(step, task.name, 0)

    async def _until_back(self, tasks: Sequence[Task]) -> None:
        """Wait until workers consume again, but not for ever: some may have been stopped."""
        give_up_at = time.monotonic() + BACK_WITHIN
        for task in tasks:
            while task.consumers and time.monotonic() < give_up_at:
                seen = await self._changes.look(task.name)
                if seen is None or seen.consumers >= task.consumers:
                    break
                await asyncio.sleep(LOOK_EVERY)

    # ---- what they need ----

    def _mover(self, tasks: Sequence[Task]) -> AbstractAsyncContextManager[Mover]:
        dead = any(task.wanted.purpose is Purpose.DEAD for task in tasks)
        return moving(self._changes.url, self._name, keep_unreadable=dead)

    async def _count(self, queue: str) -> int:
        """Messages of a queue. One question to the API serves all who ask meanwhile."""
        if self._counting is None:
            self._counting = asyncio.create_task(self._totals())
        counting = self._counting
        totals = await asyncio.shield(counting)
        if self._counting is counting:
            self._counting = None
        return totals.get(queue, -1)

    async def _totals(self) -> Mapping[str, int]:
        try:
            return await self._management.totals(self._vhost, self._prefix)
        except ManagementError as error:
            log.warning("queues cannot be counted", reason=str(error))
            return {}


def _batches(queues: Sequence[Queue]) -> list[list[Queue]]:
    """First those where nobody waits; in each batch, queues of one purpose."""
    batches = [[queue for queue in queues if queue.purpose is Purpose.DEAD]]
    retries = [queue for queue in queues if queue.purpose is Purpose.RETRY]
    soon = [queue for queue in retries if queue.arguments.get("x-message-ttl", 0) <= TOGETHER]
    batches += [soon, *([queue] for queue in retries if queue not in soon)]
    requests = [queue for queue in queues if queue.purpose is Purpose.REQUESTS]
    batches += [requests[first : first + BATCH] for first in range(0, len(requests), BATCH)]
    return [batch for batch in batches if batch]


def _impossible(live: LiveQueue) -> str:
    if live.exclusive or live.auto_delete or not live.durable:
        return "it belongs to a connection, or does not outlive its broker: it is none of ours"
    if live.type not in {"classic", "quorum"}:
        return f"it is a {live.type} queue"
    if live.arguments.get("x-single-active-consumer") and live.consumers:
        return "it has a single active consumer: stop the workers first"
    return ""


def _queue_beside(task: Task) -> Queue:
    """As safe as the queue is to be, but not bounded, and read as often as it takes."""
    arguments = {
        name: value
        for name, value in task.wanted.arguments.items()
        if name not in {"x-max-length", "x-max-length-bytes", "x-single-active-consumer"}
    }
    if "x-delivery-limit" in arguments:
        arguments["x-delivery-limit"] = UNLIMITED
    return Queue(task.beside, task.wanted.purpose, arguments)
