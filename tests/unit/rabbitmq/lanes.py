"""A worker's two lanes over sockets that write nothing, and an event loop that turns on demand."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from bridge.rabbitmq.consuming import REFUSED_PAUSE, ConsumeLane
from bridge.rabbitmq.delivery import LaneDelivery, Pending
from bridge.rabbitmq.frames.reading import FrameStream
from bridge.rabbitmq.frames.writing import Encoder
from bridge.rabbitmq.outbox import Outbox
from bridge.rabbitmq.publishing import PublishLane
from bridge.transport import Confirm, Delivery, Properties, Publishing, Subscription
from tests.unit.rabbitmq.wire import Recorder, frame, header, message, return_payload, short

CONSUME, PUBLISH = 1, 2


class Loop:
    """An event loop that turns when the test says so."""

    def __init__(self) -> None:
        self._ready: list[Callable[[], None]] = []
        self._later: list[Callable[[], None]] = []
        self.asked = 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.asked += 1
        self._ready.append(callback)

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> None:
        assert delay == REFUSED_PAUSE
        self._later.append(partial(callback, *arguments))

    def turn(self) -> None:
        ready, self._ready = self._ready, []
        for callback in ready:
            callback()

    def pass_time(self) -> None:
        """All that was to come later comes now."""
        later, self._later = self._later, []
        for callback in later:
            callback()


class Socket:
    """A transport's writing end."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        assert not self.closing, "written to a closed socket"
        self.writes.append(data)

    def writelines(self, parts: list[bytes | memoryview]) -> None:
        assert not self.closing, "written to a closed socket"
        assert all(parts), "an empty part is written"
        self.writes += map(bytes, parts)

    def is_closing(self) -> bool:
        return self.closing

    def taken(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self.writes)
        self.writes.clear()
        return data


class Connection:
    """An outbox, its socket, and the bytes that come back."""

    def __init__(self, loop: Loop) -> None:
        self.socket = Socket()
        self.outbox = Outbox(
            cast(asyncio.WriteTransport, self.socket), cast(asyncio.AbstractEventLoop, loop)
        )
        self.stream = FrameStream(Recorder())
        self.others: list[Outbox] = []
        """What else has its turn when this connection receives."""

    def receive(self, data: bytes) -> None:
        """As a session does: what the bytes lead to on either connection is written after them."""
        outboxes = [self.outbox, *self.others]
        for outbox in outboxes:
            outbox.due = True
        self.stream.feed(data)
        for outbox in outboxes:
            outbox.flush()


class Lanes:
    """A worker's two lanes on two connections, and what its subscription was given."""

    def __init__(self, prefetch: int = 200) -> None:
        self.loop = Loop()
        self.consuming = Connection(self.loop)
        self.publishing = Connection(self.loop)
        self.consuming.others.append(self.publishing.outbox)
        self.publishing.others.append(self.consuming.outbox)
        self.ends: list[str] = []
        """The reasons that the lanes have told."""
        self.told: list[str] = []
        """What else they have told, in order."""
        self.publish_lane = PublishLane(
            PUBLISH,
            self.publishing.outbox,
            Encoder(4096),
            on_end=self.ends.append,
            on_returned=lambda: self.told.append("returned"),
            on_refused=lambda: self.told.append("refused"),
        )
        self.publishing.stream.register(PUBLISH, self.publish_lane)
        self.consume_lane = self.add_consume_lane(CONSUME)
        self.deliveries: list[LaneDelivery] = []
        self.consume_lane.subscribe("ctag", Subscription("q", prefetch, self.take))
        self.consume_lane.subscribe("no-ack", Subscription("replies", 200, self.take, no_ack=True))

    def add_consume_lane(self, channel: int, kind: type[ConsumeLane] = ConsumeLane) -> ConsumeLane:
        """A lane on a channel of the consuming connection."""
        lane = kind(
            channel,
            self.consuming.outbox,
            self.publish_lane,
            on_end=self.ends.append,
            on_settled=lambda: self.told.append("settled"),
        )
        self.consuming.stream.register(channel, lane)
        return lane

    def take(self, delivery: Delivery) -> None:
        assert isinstance(delivery, LaneDelivery)
        self.deliveries.append(delivery)


def reply(
    key: str = "reply", correlation_id: str | None = None, *, mandatory: bool = False
) -> Publishing:
    return Publishing(
        key, b"answer", Properties(correlation_id=correlation_id), mandatory=mandatory
    )


def returned(key: str, correlation_id: str | None, exchange: bytes = b"") -> bytes:
    content = (0, b"") if correlation_id is None else (0x0400, short(correlation_id.encode()))
    return frame(1, PUBLISH, return_payload(key.encode(), exchange)) + header(PUBLISH, 0, *content)


def receive(lanes: Lanes, count: int) -> list[LaneDelivery]:
    lanes.consuming.receive(
        b"".join(message(CONSUME, tag, b"%d" % tag) for tag in range(1, count + 1))
    )
    assert lanes.consuming.socket.writes == []
    return lanes.deliveries


def publish(lanes: Lanes, *publishings: Publishing) -> list[list[Confirm]]:
    """Send them; a list for each, of what is reported about it."""
    reports: list[list[Confirm]] = []
    for publishing in publishings:
        reports.append([])
        lanes.publish_lane.publish(publishing, Pending(publishing, reports[-1].append))
    return reports
