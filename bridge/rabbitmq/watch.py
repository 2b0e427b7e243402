"""Finds a session that is dead and has not been closed.

A peer can be gone without a word (a dead host, a black hole), or be cut off from its cluster; and a
broker can forget a consumer, so that a worker is connected and consumes nothing. Three signs tell:

* no byte from the broker for :data:`SILENCE` heartbeats;
* publishings that wait for confirms, and none at all in the same time;
* a queue of ours without a consumer, or with messages that we do not get and another consumer would
  (the audit).

While something blocks the event loop, nobody hears the broker, and it hears nothing of us. What has
come meanwhile is read later than the timers of these deadlines run. So silence counts from the end
of the block on. A broker that has closed the connection for want of heartbeats was right to do so,
and :meth:`Watch.excuse` says why there were none.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Collection, Sequence
from typing import Final

import aiormq

from bridge.rabbitmq.connection import CLOSE_TIMEOUT, Connection
from bridge.rabbitmq.consuming import ConsumeLane
from bridge.rabbitmq.losses import LOST, losses_as_errors, retrieve
from bridge.rabbitmq.publishing import PublishLane
from bridge.telemetry.logs import get_logger
from bridge.telemetry.pulse import Pulse

log = get_logger("bridge.rabbitmq")

SILENCE: Final = 2.0
"""Heartbeats without a byte from the broker after which a connection is dead. The broker sends one
each half interval."""
AUDIT: Final = 30.0
"""Seconds between two looks at whether the broker still knows our consumers."""

SERVED_WITHIN: Final = 2.0
"""Seconds in which a consumer is given a message that waits."""

RECENT: Final = 1.0
"""Seconds since the event loop was blocked in which what becomes of a connection is its doing: what
has come meanwhile is read in the loop's next turns."""


class Watch:
    """Watches one session, from when its connections are open until :meth:`stop`."""

    def __init__(
        self,
        consuming: Connection,
        publishing: Connection,
        *,
        consume_lanes: Sequence[ConsumeLane],
        publish_lanes: Collection[PublishLane],
        is_blocked: Callable[[], bool],
        end: Callable[[str], None],
        pulse: Pulse | None = None,
    ) -> None:
        """The lanes are the session's own, which may still become more.

        `is_blocked`: whether the broker takes no publishings for now. `end`: called with the reason
        when the session is found dead. `pulse`: of the event loop, for the watch to start and stop;
        None: one of its own.
        """
        self._consuming = consuming
        self._publishing = publishing
        self._consume_lanes = consume_lanes
        self._publish_lanes = publish_lanes
        self._is_blocked = is_blocked
        self._end = end
        self._pulse = pulse or Pulse()
        self._timer: asyncio.TimerHandle | None = None
        self._auditing: asyncio.Task[None] | None = None
        self._pinging: asyncio.Task[None] | None = None
        """The question that has no answer yet, or the last one."""
        self._ping_channel: aiormq.abc.AbstractChannel | None = None
        """It has been of use before."""
        self._confirmed = -1
        """Publishings confirmed at the last look."""
        self._confirmed_at = 0.0
        """When they last became more or none was waited for, by the loop's clock."""

    def start(self) -> None:
        """Watch for silence and for missing confirms."""
        self._pulse.start()
        self._look()

    def start_audit(self) -> None:
        """Watch the consumers too, once all of them are there."""
        self._auditing = asyncio.create_task(self._audit())

    def stop_audit(self) -> None:
        """The consumers are about to be cancelled."""
        if self._auditing is not None:
            self._auditing.cancel()

    def stop(self) -> None:
        """The session is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._pulse.stop()
        self.stop_audit()
        if self._pinging is not None:
            self._pinging.cancel()

    def excuse(self) -> str:
        """What to add to the reason why a connection has ended: that the event loop was blocked.

        Empty, unless it was so just now, and for longer than the broker waits for a heartbeat.
        """
        blocked = self._pulse.last_hold_up
        if self._pulse.turning_for > RECENT or blocked < self._consuming.protocol.heartbeat:
            return ""
        return (
            f"; the event loop had been blocked for {blocked:.1f} s,"
            " so that the broker got no heartbeats"
        )

    def _look(self) -> None:
        heartbeat = self._consuming.protocol.heartbeat
        turning_for = self._pulse.turning_for
        for connection in (self._consuming, self._publishing):
            if min(connection.silent_for, turning_for / heartbeat) > SILENCE:
                self._end(
                    f"{connection.name}: no sign of life from the broker "
                    f"for {SILENCE * heartbeat:g} s"
                )
                return
        if min(self.without_confirm(), turning_for) > SILENCE * heartbeat:
            self._end(
                f"{self._publishing.name}: the broker has confirmed nothing "
                f"for {SILENCE * heartbeat:g} s"
            )
            return
        if heartbeat < math.inf:
            self._timer = asyncio.get_running_loop().call_later(heartbeat / 2, self._look)

    def without_confirm(self) -> float:
        """Seconds in which publishings have waited for confirms and none at all has come.

        A node that has lost its majority goes on living, and takes what it can neither keep nor
        pass on: RabbitMQ 4.3 has no partition handling that would stop it.
        """
        now = asyncio.get_running_loop().time()
        confirmed = sum(lane.confirmed for lane in self._publish_lanes)
        waiting = any(lane.unconfirmed for lane in self._publish_lanes)
        if confirmed != self._confirmed or not waiting or self._is_blocked():
            self._confirmed, self._confirmed_at = confirmed, now
        return now - self._confirmed_at

    async def _audit(self) -> None:
        """Notice "connected but not consuming": a consumer that the broker has forgotten.

        It has when a queue of ours has no consumer at all; or when messages wait and none has come
        in between two looks, although nothing is in hand, and a new consumer is given one. (Of a
        queue with a single active consumer all others stand by, and so would the new one.) A broker
        that does not answer for a queue has lost touch with it. Where it allows no channel for
        this, there is no audit.
        """
        last: dict[ConsumeLane, int] = {}
        with contextlib.suppress(*LOST), losses_as_errors():
            while True:
                await asyncio.sleep(AUDIT)
                if not self._consuming.has_room:
                    log.info("no audit of consumers", reason="the broker allows no more channels")
                    return
                for lane in tuple(self._consume_lanes):
                    quiet = lane.received == last.get(lane, -1) and not lane.unsettled
                    last[lane] = lane.received
                    for queue in lane.queues:
                        try:
                            found = await self.look_at(queue)
                        except TimeoutError:
                            if self._pulse.turning_for < CLOSE_TIMEOUT:
                                break  # it may have answered while nobody listened
                            self._end(f"not consuming: the broker says nothing of queue {queue!r}")
                            return
                        if found is None:
                            continue
                        waiting, consumers = found
                        if consumers == 0 or (
                            quiet and waiting > 0 and await self._another_is_served(queue)
                        ):
                            self._end(
                                f"not consuming: queue {queue!r} has {consumers} consumers "
                                f"and {waiting} messages waiting"
                            )
                            return

    async def _another_is_served(self, queue: str) -> bool:
        """Whether a new consumer of the queue is given a message. It goes back at once."""
        channel = await self._consuming.channel(confirms=False)
        served = asyncio.Event()

        async def take(_: object) -> None:
            served.set()

        try:
            await channel.basic_qos(prefetch_count=1)
            await channel.basic_consume(queue, take)
            async with asyncio.timeout(SERVED_WITHIN):
                await served.wait()
        except aiormq.exceptions.AMQPChannelError:
            return False
        except TimeoutError:
            pass
        await channel.close()
        return served.is_set()

    async def ping(self, timeout: float) -> None:
        """Return when the broker answers.

        Raises TimeoutError after `timeout` seconds, and ConnectionError or what the libraries raise
        if it cannot be asked. Where the broker allows no channel for this, it is not asked.
        """
        pinging = self._pinging
        if pinging is None or pinging.done():
            # It is left to its end: an answer that comes late is not taken for the next one.
            self._pinging = pinging = asyncio.create_task(self._ping())
            pinging.add_done_callback(retrieve)
        await asyncio.wait((pinging,), timeout=timeout)
        if not pinging.done():
            raise TimeoutError
        if pinging.cancelled():
            raise ConnectionError("the session has ended")
        pinging.result()

    async def _ping(self) -> None:
        channel, self._ping_channel = self._ping_channel, None
        with losses_as_errors():
            if channel is None:
                if not self._consuming.has_room:
                    return
                channel = await self._consuming.channel(confirms=False)
            await channel.basic_qos(prefetch_count=1)
        self._ping_channel = channel

    async def look_at(self, queue: str) -> tuple[int, int] | None:
        """Messages ready and consumers of a queue. None: it cannot be asked, or does not exist."""
        # On the connection that the broker reads even while an alarm is on.
        channel = await self._consuming.channel(confirms=False)
        try:
            declared = await channel.queue_declare(queue, passive=True, timeout=CLOSE_TIMEOUT)
        except aiormq.exceptions.AMQPChannelError:
            return None
        await channel.close()
        return declared.message_count or 0, declared.consumer_count or 0
