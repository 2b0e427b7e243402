"""The book-keeping of the lanes: what is acknowledged, confirmed, held back and written, and when.

The other side is a model of the broker that keeps AMQP's rules, and is as strict as RabbitMQ about them.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, cast
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.rabbitmq.consuming import REFUSED_PAUSE, ConsumeLane
from bridge.rabbitmq.delivery import LaneDelivery, Pending
from bridge.rabbitmq.frames.ids import FrameError
from bridge.rabbitmq.frames.reading import ContentReader, FrameStream
from bridge.rabbitmq.outbox import Outbox
from bridge.rabbitmq.publishing import PublishLane
from bridge.transport import Confirm, Delivery, Properties, Publishing, Subscription, Verdict
from tests.unit.rabbitmq.wire import (
    Recorder,
    ack,
    deliver,
    frame,
    frames_of,
    header,
    message,
    method,
    nack,
    return_payload,
    short,
)

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
        """As a session does: what the bytes lead to, on either connection, is written when all of them have been read."""
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
        self.publish_lane = PublishLane(PUBLISH, self.publishing.outbox, 4096)
        self.consume_lane = ConsumeLane(CONSUME, self.consuming.outbox, self.publish_lane)
        self.publishing.stream.readers[PUBLISH] = ContentReader(self.publish_lane, PUBLISH)
        self.consuming.stream.readers[CONSUME] = ContentReader(self.consume_lane, CONSUME)
        self.deliveries: list[LaneDelivery] = []
        self.consume_lane.subscribe("ctag", Subscription("q", prefetch, self.take))
        self.consume_lane.subscribe("no-ack", Subscription("replies", 200, self.take, no_ack=True))

    def take(self, delivery: Delivery) -> None:
        assert isinstance(delivery, LaneDelivery)
        self.deliveries.append(delivery)


@pytest.fixture
def lanes() -> Lanes:
    return Lanes()


def reply(
    key: str = "reply", correlation_id: str | None = None, *, mandatory: bool = False
) -> Publishing:
    return Publishing(
        key, b"answer", Properties(correlation_id=correlation_id), mandatory=mandatory
    )


def returned(key: str, correlation_id: str | None, exchange: bytes = b"") -> bytes:
    content = (0, b"") if correlation_id is None else (0x0400, short(correlation_id.encode()))
    return frame(1, PUBLISH, return_payload(key.encode(), exchange)) + header(PUBLISH, 0, *content)


# ---- the outbox ----------------------------------------------------------------------------------------------------


def test_what_a_turn_adds_is_one_write_at_its_end() -> None:
    loop = Loop()
    connection = Connection(loop)
    for part in (b"a", b"b", b"c"):
        connection.outbox.add(part)
    assert connection.socket.writes == []
    loop.turn()
    connection.outbox.add(b"d")
    loop.turn()
    loop.turn()
    assert connection.socket.writes == [b"abc", b"d"]
    assert loop.asked == 2


def test_a_flush_without_anything_to_send_writes_nothing() -> None:
    connection = Connection(Loop())
    connection.outbox.flush()
    assert connection.socket.writes == []


def test_what_is_added_before_a_flush_goes_with_it_and_asks_for_no_other() -> None:
    loop = Loop()
    connection = Connection(loop)
    connection.outbox.before_flush = lambda: connection.outbox.add(b"last")
    connection.outbox.add(b"first ")
    loop.turn()
    loop.turn()
    assert connection.socket.writes == [b"first last"]
    assert loop.asked == 1


def test_nothing_is_written_to_a_socket_that_closes() -> None:
    loop = Loop()
    connection = Connection(loop)
    connection.outbox.add(b"late")
    connection.socket.closing = True
    loop.turn()
    assert connection.socket.writes == []


# ---- what is acknowledged, by example ------------------------------------------------------------------------------


def receive(lanes: Lanes, count: int) -> list[LaneDelivery]:
    lanes.consuming.receive(
        b"".join(message(CONSUME, tag, b"%d" % tag) for tag in range(1, count + 1))
    )
    assert lanes.consuming.socket.writes == []
    return lanes.deliveries


def test_a_delivery_says_what_came(lanes: Lanes) -> None:
    content = deliver(CONSUME, 1) + header(CONSUME, 2, 0x0400, b"\x01c") + frame(3, CONSUME, b"hi")
    lanes.consuming.receive(content)
    (delivery,) = lanes.deliveries
    assert (delivery.exchange, delivery.routing_key, delivery.redelivered) == ("x", "key", False)
    assert (delivery.properties, delivery.body) == (Properties(correlation_id="c"), b"hi")


def test_all_of_a_turn_are_acknowledged_by_one_frame(lanes: Lanes) -> None:
    for delivery in receive(lanes, 5):
        delivery.settle(Verdict.ACK)
    assert lanes.consume_lane.unsettled == 0
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == [ack(CONSUME, 5, multiple=True)]


def test_two_channels_of_a_connection_acknowledge_in_one_write_each_for_itself(
    lanes: Lanes,
) -> None:
    other = 3
    lane = ConsumeLane(other, lanes.consuming.outbox, lanes.publish_lane)
    lane.subscribe("ctag", Subscription("waiting", 200, lanes.take))
    lanes.consuming.stream.readers[other] = ContentReader(lane, other)
    lanes.consuming.receive(
        message(CONSUME, 1, b"now") + message(other, 1, b"waits") + message(other, 2, b"is back")
    )
    now, _, is_back = lanes.deliveries
    now.settle(Verdict.ACK)
    is_back.settle(Verdict.ACK)
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == [ack(CONSUME, 1, multiple=True) + ack(other, 2)]
    assert (lanes.consume_lane.unsettled, lane.unsettled) == (0, 1)


def test_an_unfinished_delivery_holds_back_nobody_and_is_not_covered(lanes: Lanes) -> None:
    first, second, third, fourth = receive(lanes, 4)
    for delivery in (fourth, first, third):
        delivery.settle(Verdict.ACK)
    lanes.loop.turn()
    (written,) = lanes.consuming.socket.writes
    assert written in {
        ack(CONSUME, 1, multiple=True) + ack(CONSUME, 3) + ack(CONSUME, 4),
        ack(CONSUME, 1, multiple=True) + ack(CONSUME, 4) + ack(CONSUME, 3),
    }
    assert lanes.consume_lane.unsettled == 1
    lanes.consuming.socket.taken()
    second.settle(Verdict.ACK)
    lanes.loop.turn()
    assert list(frames_of(lanes.consuming.socket.taken())) == list(
        frames_of(ack(CONSUME, 2, multiple=True))
    )


def test_what_was_finished_out_of_order_is_forgotten_once_all_below_it_is_finished(
    lanes: Lanes,
) -> None:
    written = []
    deliveries = receive(lanes, 4)
    for number, verdict in (
        (1, Verdict.ACK),
        (2, Verdict.REJECT),
        (0, Verdict.ACK),
        (3, Verdict.ACK),
    ):
        deliveries[number].settle(verdict)
        lanes.loop.turn()
        written.append(lanes.consuming.socket.taken())
    assert written == [
        ack(CONSUME, 2),
        nack(CONSUME, 3),
        ack(CONSUME, 1, multiple=True),
        ack(CONSUME, 4, multiple=True),  # and not alone, as if 2 and 3 were still in the way
    ]


@pytest.mark.parametrize(
    ("verdict", "bits"), [(Verdict.REJECT, b"\x00"), (Verdict.REQUEUE, b"\x02")]
)
def test_a_refusal_is_a_frame_of_its_own(lanes: Lanes, verdict: Verdict, bits: bytes) -> None:
    receive(lanes, 1)[0].settle(verdict)
    lanes.loop.turn()
    refused = frame(1, CONSUME, method(60, 120, struct.pack(">Q", 1), bits))
    assert lanes.consuming.socket.writes == [refused]


def test_a_delivery_without_ack_needs_none_and_takes_none(lanes: Lanes) -> None:
    lanes.consuming.receive(
        deliver(CONSUME, 1, consumer=b"no-ack") + header(CONSUME, 0) + message(CONSUME, 2, b"x")
    )
    assert lanes.consume_lane.unsettled == 1
    free, owed = lanes.deliveries
    with pytest.raises(RuntimeError, match="settled once"):
        free.settle(Verdict.ACK)
    owed.settle(Verdict.ACK)
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == [ack(CONSUME, 2, multiple=True)]


def test_a_message_whose_headers_cannot_be_read_is_rejected_unseen(lanes: Lanes) -> None:
    lanes.consuming.receive(deliver(CONSUME, 1) + header(CONSUME, 0, 0x8000, b"\xff"))
    assert lanes.deliveries == []
    assert lanes.consuming.socket.writes == [nack(CONSUME, 1)]
    assert lanes.consume_lane.unsettled == 0


def test_a_delivery_is_settled_once(lanes: Lanes) -> None:
    (delivery,) = receive(lanes, 1)
    delivery.settle(Verdict.ACK)
    with pytest.raises(RuntimeError, match="settled once"):
        delivery.settle(Verdict.REJECT)
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == [ack(CONSUME, 1, multiple=True)]


def test_a_reply_that_amqp_cannot_carry_leaves_the_delivery_to_be_settled(lanes: Lanes) -> None:
    first, second = receive(lanes, 2)
    with pytest.raises(ValueError, match="256"):
        first.settle(Verdict.ACK, reply("k" * 256))
    first.settle(Verdict.REJECT)
    second.settle(Verdict.ACK, reply())
    lanes.publishing.receive(ack(PUBLISH, 1))
    lanes.loop.turn()
    assert lanes.consuming.socket.taken() == nack(CONSUME, 1) + ack(CONSUME, 2, multiple=True)


def test_what_waits_for_its_confirm_has_forgotten_what_it_brought(lanes: Lanes) -> None:
    (delivery,) = receive(lanes, 1)
    body = delivery.body
    assert body
    with pytest.raises(ValueError, match="256"):
        delivery.settle(Verdict.ACK, reply("k" * 256))
    assert delivery.body == body, "it can still be settled otherwise"
    delivery.settle(Verdict.ACK, reply())
    assert (delivery.body, delivery.properties) == (b"", Properties())


def test_nobody_may_confirm_or_return_on_the_consuming_channel(lanes: Lanes) -> None:
    for wrong in (
        ack(CONSUME, 1),
        nack(CONSUME, 1),
        frame(1, CONSUME, return_payload()) + header(CONSUME, 0),
    ):
        with pytest.raises(FrameError, match="does not publish"):
            Lanes().consuming.stream.feed(wrong)


def test_nobody_may_deliver_or_cancel_on_the_publishing_channel() -> None:
    for wrong in (
        message(PUBLISH, 1, b""),
        frame(1, PUBLISH, method(60, 30, short(b"ctag"), b"\x00")),
    ):
        with pytest.raises(FrameError, match="does not consume"):
            Lanes().publishing.stream.feed(wrong)


def test_a_delivery_for_a_consumer_nobody_started_is_refused(lanes: Lanes) -> None:
    with pytest.raises(FrameError, match="never started"):
        lanes.consuming.stream.feed(deliver(CONSUME, 1, consumer=b"other") + header(CONSUME, 0))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(1, CONSUME, method(60, 30, short(b"ctag"), b"\x01")), "consumer of 'q'"),
        (frame(1, CONSUME, method(60, 30, short(b"?"), b"\x01")), "consumer of '?'"),
        (
            frame(1, CONSUME, method(20, 40, b"\x01\x96", short(b"PRECONDITION"), bytes(4))),
            "406 PRECONDITION",
        ),
    ],
)
def test_the_end_of_a_consumer_or_its_channel_is_told_with_its_reason(
    lanes: Lanes, data: bytes, reason: str
) -> None:
    told: list[str] = []
    lanes.consume_lane.on_end = told.append
    lanes.consuming.receive(data)
    assert len(told) == 1
    assert reason in told[0]


def test_the_end_of_the_publishing_channel_is_told_with_its_reason(lanes: Lanes) -> None:
    told: list[str] = []
    lanes.publish_lane.on_end = told.append
    lanes.publishing.receive(
        frame(1, PUBLISH, method(20, 40, b"\x01\x94", short(b"NOT_FOUND"), bytes(4)))
    )
    assert told == ["the broker closed the publishing channel: 404 NOT_FOUND"]


# ---- replies: published, confirmed, then acknowledged --------------------------------------------------------------


@pytest.mark.parametrize(
    ("fate", "settled"),
    [
        (ack(PUBLISH, 1), ack(CONSUME, 1, multiple=True)),
        (returned("reply", "c") + ack(PUBLISH, 1), ack(CONSUME, 1, multiple=True)),
    ],
    ids=["confirmed", "returned"],
)
def test_a_request_is_settled_only_when_its_reply_has_met_its_fate(
    lanes: Lanes, fate: bytes, settled: bytes
) -> None:
    (delivery,) = receive(lanes, 1)
    delivery.settle(Verdict.ACK, reply("reply", "c", mandatory=True))
    lanes.loop.turn()
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == []
    assert [kind for kind, _, _ in frames_of(lanes.publishing.socket.taken())] == [1, 2, 3]
    assert lanes.consume_lane.unsettled == 1
    lanes.publishing.receive(fate)
    lanes.loop.turn()
    assert lanes.consuming.socket.taken() == settled
    assert lanes.consume_lane.unsettled == 0


REQUEUED = frame(1, CONSUME, method(60, 120, struct.pack(">Q", 1), b"\x02"))


def test_a_request_whose_reply_is_refused_comes_back_after_a_pause(lanes: Lanes) -> None:
    (delivery,) = receive(lanes, 1)
    delivery.settle(Verdict.ACK, reply())
    lanes.loop.turn()
    lanes.publishing.receive(nack(PUBLISH, 1))
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == []
    assert lanes.consume_lane.unsettled == 1
    lanes.loop.pass_time()
    lanes.loop.turn()
    assert lanes.consuming.socket.taken() == REQUEUED
    assert lanes.consume_lane.unsettled == 0


def test_a_request_that_is_to_come_back_does_not_after_its_connection_has_ended(
    lanes: Lanes,
) -> None:
    (delivery,) = receive(lanes, 1)
    delivery.settle(Verdict.ACK, reply())
    lanes.publishing.receive(nack(PUBLISH, 1))
    lanes.consume_lane.close()
    lanes.loop.pass_time()
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == []


def copy() -> Publishing:
    """A request on its way elsewhere."""
    return Publishing(
        "v", b"request", Properties(correlation_id="c"), "datatransfer.dead", mandatory=True
    )


@pytest.mark.parametrize(("answer", "published"), [(reply(), 2), (None, 1)])
def test_a_copy_is_confirmed_before_the_reply_is_sent_and_that_before_the_verdict(
    lanes: Lanes, answer: Publishing | None, published: int
) -> None:
    (delivery,) = receive(lanes, 1)
    delivery.settle(Verdict.ACK, answer, copy())
    with pytest.raises(RuntimeError, match="settled once"):
        delivery.settle(Verdict.ACK)
    sent = []
    for number in range(1, published + 1):
        lanes.loop.turn()
        assert lanes.consuming.socket.writes == []
        sent.append(lanes.publishing.socket.taken())
        lanes.publishing.receive(ack(PUBLISH, number))
    lanes.loop.turn()
    assert [b"request" in frames for frames in sent] == [True, False][:published]
    assert lanes.consuming.socket.taken() == ack(CONSUME, 1, multiple=True)
    assert lanes.publishing.socket.taken() == b""


@pytest.mark.parametrize(
    "fate",
    [nack(PUBLISH, 1), returned("v", "c", b"datatransfer.dead") + ack(PUBLISH, 1)],
    ids=["refused", "returned"],
)
def test_a_request_whose_copy_did_not_arrive_gets_no_reply_and_comes_back(
    lanes: Lanes, fate: bytes
) -> None:
    (delivery,) = receive(lanes, 1)
    delivery.settle(Verdict.ACK, reply(), copy())
    lanes.loop.turn()
    lanes.publishing.socket.taken()
    lanes.publishing.receive(fate)
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == []
    lanes.loop.pass_time()
    lanes.loop.turn()
    assert lanes.consuming.socket.taken() == REQUEUED
    assert lanes.publishing.socket.taken() == b""


def test_a_copy_that_cannot_be_sent_leaves_the_delivery_to_be_settled(lanes: Lanes) -> None:
    (delivery,) = receive(lanes, 1)
    unsendable = Publishing("v", b"", Properties(headers={"own": "x" * 5_000}), "datatransfer.dead")
    with pytest.raises(ValueError, match="do not fit a frame"):
        delivery.settle(Verdict.ACK, reply(), unsendable)
    delivery.settle(Verdict.REJECT)
    lanes.loop.turn()
    assert lanes.consuming.socket.taken() == nack(CONSUME, 1)
    assert lanes.publishing.socket.taken() == b""


def test_a_failure_is_dead_lettered_only_after_its_answer_is_confirmed(lanes: Lanes) -> None:
    (delivery,) = receive(lanes, 1)
    delivery.settle(Verdict.REJECT, reply())
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == []
    lanes.publishing.receive(ack(PUBLISH, 1))
    lanes.loop.turn()
    assert lanes.consuming.socket.taken() == nack(CONSUME, 1)


def test_acks_wait_for_the_confirm_that_comes_and_share_its_frame(lanes: Lanes) -> None:
    first, second, third = receive(lanes, 3)
    first.settle(Verdict.ACK, reply())
    second.settle(Verdict.ACK)
    third.settle(Verdict.ACK, reply())
    lanes.publishing.receive(ack(PUBLISH, 1))
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == []
    lanes.publishing.receive(ack(PUBLISH, 2))
    assert lanes.consuming.socket.writes == [ack(CONSUME, 3, multiple=True)]


@pytest.mark.parametrize(
    ("prefetch", "together"), [(1, 1), (3, 1), (20, 5), (200, 50), (2_000, 50)]
)
def test_no_more_acks_wait_than_the_broker_can_do_without(prefetch: int, together: int) -> None:
    lanes = Lanes(prefetch)
    (slow, *deliveries) = receive(lanes, together + 1)
    slow.settle(Verdict.ACK, reply())
    for delivery in deliveries:
        lanes.loop.turn()
        assert lanes.consuming.socket.writes == []
        delivery.settle(Verdict.ACK)
    lanes.loop.turn()
    assert len(list(frames_of(lanes.consuming.socket.taken()))) == together
    lanes.publishing.receive(ack(PUBLISH, 1))
    assert lanes.consuming.socket.taken() == ack(CONSUME, 1, multiple=True)


def test_a_closed_session_writes_nothing_more(lanes: Lanes) -> None:
    first, second, third = receive(lanes, 3)
    first.settle(Verdict.ACK, reply())
    lanes.loop.turn()
    lanes.publishing.socket.taken()
    lanes.consume_lane.close()
    lanes.publish_lane.close()
    second.settle(Verdict.ACK)
    third.settle(Verdict.REJECT, reply())
    lanes.publishing.receive(ack(PUBLISH, 1))
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == []
    assert lanes.publishing.socket.writes == []


# ---- confirms ------------------------------------------------------------------------------------------------------


def publish(lanes: Lanes, *publishings: Publishing) -> list[list[Confirm]]:
    """Send them; a list for each, of what is reported about it."""
    reports: list[list[Confirm]] = []
    for publishing in publishings:
        reports.append([])
        lanes.publish_lane.publish(publishing, Pending(publishing, reports[-1].append))
    return reports


C, R, X, L = Confirm.CONFIRMED, Confirm.RETURNED, Confirm.REFUSED, Confirm.LOST
FOUR = tuple(reply("reply", str(n), mandatory=True) for n in range(1, 5))


@pytest.mark.parametrize(
    ("said", "reports"),
    [
        ((), [[], [], [], []]),
        ((ack(PUBLISH, 1),), [[C], [], [], []]),
        ((ack(PUBLISH, 3, multiple=True),), [[C], [C], [C], []]),
        ((ack(PUBLISH, 3), ack(PUBLISH, 1)), [[C], [], [C], []]),
        ((ack(PUBLISH, 3), ack(PUBLISH, 4, multiple=True)), [[C], [C], [C], [C]]),
        ((ack(PUBLISH, 2), ack(PUBLISH, 1), ack(PUBLISH, 4, multiple=True)), [[C], [C], [C], [C]]),
        ((nack(PUBLISH, 2), ack(PUBLISH, 4, multiple=True)), [[C], [X], [C], [C]]),
        ((ack(PUBLISH, 1), nack(PUBLISH, 3, multiple=True)), [[C], [X], [X], []]),
        ((ack(PUBLISH, 2), ack(PUBLISH, 2), nack(PUBLISH, 2)), [[], [C], [], []]),
        ((ack(PUBLISH, 2, multiple=True), nack(PUBLISH, 4, multiple=True)), [[C], [C], [X], [X]]),
        ((returned("reply", "2"), ack(PUBLISH, 4, multiple=True)), [[C], [R], [C], [C]]),
        ((returned("reply", "2"), returned("reply", "4"), ack(PUBLISH, 4)), [[], [], [], [R]]),
        ((returned("other", "2"), ack(PUBLISH, 2)), [[], [C], [], []]),
        ((returned("reply", None), ack(PUBLISH, 1)), [[C], [], [], []]),
    ],
)
def test_each_publishing_is_told_its_own_fate_once(
    lanes: Lanes, said: tuple[bytes, ...], reports: list[list[Confirm]]
) -> None:
    told = publish(lanes, *FOUR)
    lanes.publishing.receive(b"".join(said))
    assert told == reports
    lanes.publish_lane.close()
    lanes.publish_lane.close()
    assert told == [report or [L] for report in reports]
    lanes.publishing.receive(ack(PUBLISH, 4, multiple=True))
    assert told == [report or [L] for report in reports]


def test_every_return_is_told(lanes: Lanes) -> None:
    told = Mock()
    lanes.publish_lane.on_returned = told
    publish(lanes, *FOUR)
    lanes.publishing.receive(returned("reply", "2") + returned("nobody's", None))
    assert told.call_count == 2


def test_publishings_alike_are_returned_in_their_order(lanes: Lanes) -> None:
    alike = reply("gone", "same", mandatory=True)
    told = publish(lanes, alike, alike, alike)
    lanes.publishing.receive(returned("gone", "same") + ack(PUBLISH, 1))
    assert told == [[R], [], []]
    lanes.publishing.receive(
        returned("gone", "same") + returned("gone", "same") + ack(PUBLISH, 3, multiple=True)
    )
    assert told == [[R], [R], [R]]


def test_a_return_is_none_of_a_publishing_that_is_not_mandatory(lanes: Lanes) -> None:
    told = publish(lanes, reply("reply", "c"), reply("reply", "c", mandatory=True))
    lanes.publishing.receive(returned("reply", "c") + ack(PUBLISH, 2, multiple=True))
    assert told == [[C], [R]]


def test_a_return_finds_a_publishing_that_shares_its_properties(lanes: Lanes) -> None:
    shared = Properties(type="DataTransferResponse")
    told = publish(
        lanes,
        *(
            Publishing("reply", b"", shared, mandatory=True, correlation_id=name)
            for name in ("a", "b")
        ),
    )
    lanes.publishing.receive(returned("reply", "b") + ack(PUBLISH, 2, multiple=True))
    assert told == [[C], [R]]


@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize("tag", [5, 2**64 - 1])
def test_a_confirm_of_what_was_never_sent_breaks_the_protocol(
    lanes: Lanes, tag: int, multiple: bool
) -> None:
    told = publish(lanes, *FOUR)
    with pytest.raises(FrameError, match=f"a confirm of publishing {tag}, and 4 were sent"):
        lanes.publishing.stream.feed(ack(PUBLISH, tag, multiple=multiple))
    assert told == [[], [], [], []]


def test_what_cannot_be_sent_is_not_counted(lanes: Lanes) -> None:
    with pytest.raises(ValueError, match="256"):
        publish(lanes, reply("k" * 256))
    lanes.loop.turn()
    assert lanes.publishing.socket.writes == []
    told = publish(lanes, reply())
    lanes.publishing.receive(ack(PUBLISH, 1))
    assert told == [[C]]


def test_a_publishing_on_a_closed_lane_is_lost_at_once_and_not_written(lanes: Lanes) -> None:
    lanes.publish_lane.close()
    assert publish(lanes, reply()) == [[L]]
    lanes.loop.turn()
    assert lanes.publishing.socket.writes == []


def test_a_confirm_may_lead_to_the_next_publishing(lanes: Lanes) -> None:
    told: list[Confirm] = []

    def again(confirm: Confirm) -> None:
        told.append(confirm)
        lanes.publish_lane.publish(reply(), Pending(reply(), told.append))

    lanes.publish_lane.publish(reply(), Pending(reply(), again))
    lanes.publish_lane.publish(reply(), Pending(reply(), told.append))
    lanes.publishing.receive(ack(PUBLISH, 2, multiple=True))
    assert told == [C, C]
    lanes.publishing.receive(ack(PUBLISH, 3, multiple=True))
    assert told == [C, C, C]


# ---- back-pressure -------------------------------------------------------------------------------------------------


def bodies(lanes: Lanes) -> list[bytes]:
    return [delivery.body for delivery in lanes.deliveries]


def test_deliveries_are_held_back_and_released_in_their_order(lanes: Lanes) -> None:
    lanes.consuming.receive(message(CONSUME, 1, b"1"))
    lanes.consume_lane.hold = True
    lanes.consuming.receive(message(CONSUME, 2, b"2") + message(CONSUME, 3, b"3"))
    assert bodies(lanes) == [b"1"]
    assert lanes.consume_lane.unsettled == 3
    lanes.consume_lane.release()
    lanes.consuming.receive(message(CONSUME, 4, b"4"))
    assert bodies(lanes) == [b"1", b"2", b"3", b"4"]


def test_a_release_stops_where_the_next_hold_begins(lanes: Lanes) -> None:
    def take(delivery: Delivery) -> None:
        lanes.take(delivery)
        lanes.consume_lane.hold = len(lanes.deliveries) == 2

    lanes.consume_lane.subscribe("ctag", Subscription("q", 200, take))
    lanes.consume_lane.hold = True
    lanes.consuming.receive(b"".join(message(CONSUME, tag, b"%d" % tag) for tag in range(1, 4)))
    lanes.consume_lane.release()
    assert bodies(lanes) == [b"1", b"2"]
    lanes.consuming.receive(message(CONSUME, 4, b"4"))
    lanes.consume_lane.release()
    assert bodies(lanes) == [b"1", b"2", b"3", b"4"]


def test_what_was_held_back_when_the_lane_closed_is_void(lanes: Lanes) -> None:
    lanes.consume_lane.hold = True
    lanes.consuming.receive(message(CONSUME, 1, b"1"))
    lanes.consume_lane.close()
    lanes.consume_lane.release()
    assert lanes.deliveries == []


# ---- any schedule, against a broker that keeps the rules -----------------------------------------------------------


class ModelBroker:
    """RabbitMQ's side of one session: what is unacked, what was published, and what the rules are."""

    def __init__(self) -> None:
        self.tag = 0
        self.unacked: dict[int, str] = {}
        """Tag → message, of deliveries that it waits for."""
        self.fates: list[tuple[str, int]] = []
        """(ack, reject, requeue; tag), as they came."""
        self.published = 0
        self.unconfirmed: dict[int, str] = {}
        """Number → its routing key. (Each publishing of the test has a key of its own.)"""

    def read_consuming(self, data: bytes) -> None:
        for kind, channel, payload in frames_of(data):
            assert (kind, channel) == (1, CONSUME)
            method_id, tag, bits = struct.unpack(">IQB", payload)
            multiple = bool(bits & 1)
            assert tag in self.unacked, f"PRECONDITION_FAILED - unknown delivery tag {tag}"
            if method_id == 60 << 16 | 80:
                fate = "ack"
            else:
                assert method_id == 60 << 16 | 120
                fate = "requeue" if bits & 2 else "reject"
            for settled in [
                number for number in self.unacked if number == tag or (multiple and number < tag)
            ]:
                del self.unacked[settled]
                self.fates.append((fate, settled))

    def read_publishing(self, data: bytes) -> None:
        for kind, channel, payload in frames_of(data):
            assert channel == PUBLISH
            if kind == 1:
                assert payload[:7] == method(60, 40, bytes(3))
                self.published += 1
                self.unconfirmed[self.published] = payload[8 : 8 + payload[7]].decode()


FATES = {Verdict.ACK: "ack", Verdict.REJECT: "reject", Verdict.REQUEUE: "requeue"}
verdicts = st.sampled_from([Verdict.ACK, Verdict.ACK, Verdict.ACK, Verdict.REJECT, Verdict.REQUEUE])


class Schedule(RuleBasedStateMachine):
    """Deliveries, verdicts, replies, confirms, holds and turns of the loop in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.together = 1
        self.broker = ModelBroker()
        self.open: list[LaneDelivery] = []
        """Seen by the worker, not settled by it."""
        self.waiting: dict[str, tuple[int, Verdict, bool]] = {}
        """Routing key of a reply or copy → the delivery whose verdict waits for it, and whether a reply follows first."""
        self.pausing: list[int] = []
        """Tags of deliveries that go back when time has passed."""
        self.expected: dict[int, str] = {}
        """Tag → its fate, as soon as it is decided."""
        self.order: list[int] = []

    @initialize(prefetch=st.sampled_from([0, 1, 7, 8, 20, 200]))
    def start(self, prefetch: int) -> None:
        self.lanes = Lanes(prefetch)
        self.together = max(1, min(prefetch or 200, 200) // 4)

    # What the broker does:

    @rule(
        kinds=st.lists(
            st.sampled_from(["plain", "plain", "plain", "no-ack", "unreadable"]),
            min_size=1,
            max_size=6,
        )
    )
    def deliver(self, kinds: list[str]) -> None:
        data = b""
        for kind in kinds:
            self.broker.tag += 1
            tag = self.broker.tag
            if kind == "no-ack":
                data += deliver(CONSUME, tag, consumer=b"no-ack") + header(CONSUME, 0)
                continue
            self.broker.unacked[tag] = kind
            if kind == "unreadable":
                data += deliver(CONSUME, tag) + header(CONSUME, 0, 0x8000, b"\xff")
                self.expected[tag] = "reject"
            else:
                data += message(CONSUME, tag, b"body")
                self.order.append(tag)
        self.lanes.consuming.receive(data)
        self._collect()
        self._what_is_decided_is_settled()

    @precondition(lambda self: self.broker.unconfirmed)
    @rule(data=st.data(), multiple=st.booleans(), ok=st.sampled_from([True, True, False]))
    def confirm(self, data: st.DataObject, multiple: bool, ok: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.broker.unconfirmed)))
        numbers = [
            other
            for other in self.broker.unconfirmed
            if other == number or (multiple and other < number)
        ]
        for confirmed in numbers:
            tag, verdict, reply_follows = self.waiting.pop(self.broker.unconfirmed.pop(confirmed))
            self._confirmed(tag, verdict, reply_follows, ok=ok)
        self.lanes.publishing.receive((ack if ok else nack)(PUBLISH, number, multiple=multiple))
        self._what_is_decided_is_settled()

    # What the worker does:

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        count=st.integers(1, 5),
        verdict=verdicts,
        with_reply=st.booleans(),
        with_copy=st.booleans(),
    )
    def settle(
        self, data: st.DataObject, count: int, verdict: Verdict, with_reply: bool, with_copy: bool
    ) -> None:
        for _ in range(min(count, len(self.open))):
            delivery = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            tag = delivery.tag
            reply = Publishing(str(tag), b"", Properties()) if with_reply else None
            if with_copy:
                self.waiting[f"copy {tag}"] = tag, verdict, with_reply
                delivery.settle(verdict, reply, Publishing(f"copy {tag}", b"", Properties()))
            elif with_reply:
                self.waiting[str(tag)] = tag, verdict, False
                delivery.settle(verdict, reply)
            else:
                self.expected[tag] = FATES[verdict]
                delivery.settle(verdict)

    @rule()
    def pass_time(self) -> None:
        self.expected |= dict.fromkeys(self.pausing, "requeue")
        self.pausing.clear()
        self.lanes.loop.pass_time()
        self.lanes.loop.turn()
        self._what_is_decided_is_settled()

    @rule()
    def turn(self) -> None:
        self.lanes.loop.turn()
        self._what_is_decided_is_settled()

    @rule()
    def hold(self) -> None:
        self.lanes.consume_lane.hold = True

    @rule()
    def release(self) -> None:
        self.lanes.consume_lane.release()
        self._collect()

    # What must hold:

    def _confirmed(self, tag: int, verdict: Verdict, reply_follows: bool, *, ok: bool) -> None:
        if not ok:
            self.pausing.append(tag)
        elif reply_follows:
            self.waiting[str(tag)] = tag, verdict, False
        else:
            self.expected[tag] = FATES[verdict]

    def _collect(self) -> None:
        for delivery in self.lanes.deliveries:
            if delivery.verdict is None:
                assert delivery.tag == self.order.pop(0), "not in the order of the queue"
                self.open.append(delivery)
        self.lanes.deliveries.clear()

    def _read(self) -> None:
        self.broker.read_consuming(self.lanes.consuming.socket.taken())
        self.broker.read_publishing(self.lanes.publishing.socket.taken())

    def _what_is_decided_is_settled(self) -> None:
        """After a turn. While a confirm is to come, less than a quarter of the prefetch may wait to be acked with its own."""
        self._read()
        settled = {tag for _, tag in self.broker.fates}
        due = {tag: fate for tag, fate in self.expected.items() if tag not in settled}
        assert set(due.values()) <= {"ack"}
        assert len(due) < self.together
        assert not due or self.broker.unconfirmed

    @invariant()
    def nothing_is_settled_twice_or_undecided(self) -> None:
        self._read()
        settled = Counter(tag for _, tag in self.broker.fates)
        assert set(settled.values()) <= {1}
        for fate, tag in self.broker.fates:
            assert self.expected[tag] == fate

    @invariant()
    def the_lane_knows_what_is_unsettled(self) -> None:
        undecided = len(self.open) + len(self.waiting) + len(self.order) + len(self.pausing)
        assert self.lanes.consume_lane.unsettled == undecided

    def teardown(self) -> None:
        """In the end all is answered, and the broker has nothing unacked."""
        self.release()
        for delivery in self.open:
            self.expected[delivery.tag] = "ack"
            delivery.settle(Verdict.ACK)
        self.open.clear()
        self.turn()
        while self.waiting:  # first the copies, then the replies that follow them
            waiting, self.waiting = self.waiting, {}
            self.broker.unconfirmed.clear()
            for tag, verdict, reply_follows in waiting.values():
                self._confirmed(tag, verdict, reply_follows, ok=True)
            self.lanes.publishing.receive(ack(PUBLISH, self.broker.published, multiple=True))
            self.turn()
        self.pass_time()
        assert self.broker.unacked == {}
        assert self.lanes.consume_lane.unsettled == 0


TestAnySchedule = Schedule.TestCase
TestAnySchedule.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.data())
def test_every_publishing_meets_its_fate_once_in_any_order_of_confirms(data: st.DataObject) -> None:
    lanes = Lanes()
    keys = data.draw(
        st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("12")), min_size=1, max_size=10)
    )
    told = publish(lanes, *(reply(key, name, mandatory=True) for key, name in keys))
    expected: list[list[Confirm]] = [[] for _ in keys]
    unconfirmed: list[int] = list(range(1, len(keys) + 1))
    fates: dict[int, Confirm] = {}
    while unconfirmed and data.draw(st.integers(0, 9)) > 0:
        # Returns come in the order of publishing, each before its confirm, and only an ack follows one.
        kind = data.draw(st.sampled_from(["return", "ack", "nack"]))
        if kind == "return":
            number = next((n for n in unconfirmed if n not in fates), None)
            if number is not None:
                fates[number] = R
                lanes.publishing.receive(returned(*keys[number - 1]))
            continue
        last: int = data.draw(st.sampled_from(unconfirmed))
        multiple = data.draw(st.booleans())
        covered = [n for n in unconfirmed if n == last or (multiple and n < last)]
        if kind == "nack" and any(n in fates for n in covered):
            continue
        for n in covered:
            expected[n - 1].append(fates.get(n, C if kind == "ack" else X))
            unconfirmed.remove(n)
        lanes.publishing.receive((ack if kind == "ack" else nack)(PUBLISH, last, multiple=multiple))
        assert told == expected
    lanes.publish_lane.close()
    assert told == [report or [L] for report in expected]


def test_two_that_differ_in_their_exchange_alone_are_told_apart_when_one_returns() -> None:
    """A retry and a dead letter of requests without a correlation id, for the same vendor."""
    lanes = Lanes()
    copies = [
        Publishing("v", b"", Properties(), exchange, mandatory=True)
        for exchange in ("retry", "dead")
    ]
    told = publish(lanes, *copies)
    lanes.publish_lane.on_return(312, "NO_ROUTE", "dead", "v", Properties())
    lanes.publishing.receive(ack(PUBLISH, 2, multiple=True))
    assert told == [[C], [R]]
