"""What is acknowledged, held back and handed on, and when."""

import struct

import pytest

from bridge.rabbitmq.frames.ids import ProtocolError
from bridge.transport import Delivery, Properties, Subscription, Verdict
from tests.unit.rabbitmq.lanes import CONSUME, PUBLISH, Lanes, receive, reply
from tests.unit.rabbitmq.wire import (
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


@pytest.fixture
def lanes() -> Lanes:
    return Lanes()


# ---- what is acknowledged, by example ----


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
    assert lanes.told == []


def test_two_channels_of_a_connection_acknowledge_in_one_write_each_for_itself(
    lanes: Lanes,
) -> None:
    other = 3
    lane = lanes.add_consume_lane(other)
    lane.subscribe("ctag", Subscription("waiting", 200, lanes.take))
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


def test_nobody_may_confirm_or_return_on_the_consuming_channel(lanes: Lanes) -> None:
    for wrong in (
        ack(CONSUME, 1),
        nack(CONSUME, 1),
        frame(1, CONSUME, return_payload()) + header(CONSUME, 0),
    ):
        with pytest.raises(ProtocolError, match="does not publish"):
            Lanes().consuming.stream.feed(wrong)


def test_a_delivery_for_a_consumer_nobody_started_is_refused(lanes: Lanes) -> None:
    with pytest.raises(ProtocolError, match="never started"):
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
    lanes.consuming.receive(data)
    assert len(lanes.ends) == 1
    assert reason in lanes.ends[0]


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


def test_while_draining_each_acknowledgement_is_sent_at_once_and_told(lanes: Lanes) -> None:
    first, second = receive(lanes, 2)
    first.settle(Verdict.ACK, reply())
    second.settle(Verdict.ACK)
    lanes.loop.turn()
    assert (lanes.consuming.socket.writes, lanes.told) == ([], [])
    lanes.consume_lane.draining = True
    lanes.consuming.outbox.flush()
    assert lanes.consuming.socket.taken() == ack(CONSUME, 2)
    assert lanes.told == ["settled"]


# ---- back-pressure ----


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


@pytest.mark.parametrize("tag", [0, 1, 2, 4, 2**63])
def test_a_delivery_tag_that_is_not_the_next_breaks_the_protocol(lanes: Lanes, tag: int) -> None:
    """Acknowledged with others by ``multiple``, one that was missed would be lost."""
    receive(lanes, 2)
    with pytest.raises(ProtocolError, match=f"delivery tag {tag} after 2"):
        lanes.consuming.stream.feed(message(CONSUME, tag, b"odd"))
    assert [delivery.tag for delivery in lanes.deliveries] == [1, 2]


def test_what_comes_after_the_lane_closed_is_nobodys(lanes: Lanes) -> None:
    receive(lanes, 1)
    lanes.consume_lane.close()
    for tag in (2, 3):  # a channel of a connection that goes on, until the broker has closed it
        lanes.consuming.stream.feed(message(CONSUME, tag, b"late"))
    lanes.loop.turn()
    assert [delivery.tag for delivery in lanes.deliveries] == [1]
    assert (lanes.consume_lane.received, lanes.consuming.socket.writes) == (1, [])
