"""A delivery's way back: its reply is published and confirmed, and then it is acknowledged.

The other side is a model of the broker that keeps AMQP's rules, and is as strict as RabbitMQ.
"""

import struct
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.rabbitmq.delivery import Confirmable, LaneDelivery
from bridge.transport import Confirm, Delivery, Properties, Publishing, Verdict
from tests.unit.rabbitmq.lanes import CONSUME, PUBLISH, Lanes, receive, reply, returned
from tests.unit.rabbitmq.wire import (
    ack,
    deliver,
    frame,
    frames_of,
    header,
    message,
    method,
    nack,
)

REQUEUED = frame(1, CONSUME, method(60, 120, struct.pack(">Q", 1), b"\x02"))


@pytest.fixture
def lanes() -> Lanes:
    return Lanes()


def test_a_delivery_is_settled_once(lanes: Lanes) -> None:
    (delivery,) = receive(lanes, 1)
    delivery.settle(Verdict.ACK)
    with pytest.raises(RuntimeError, match="settled once"):
        delivery.settle(Verdict.REJECT)
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == [ack(CONSUME, 1, multiple=True)]


@pytest.mark.parametrize("fate", [nack(PUBLISH, 1), ack(PUBLISH, 1)], ids=["refused", "confirmed"])
def test_a_delivery_is_settled_once_whatever_becomes_of_its_copy(lanes: Lanes, fate: bytes) -> None:
    (delivery,) = receive(lanes, 1)
    delivery.settle(Verdict.ACK, None, reply())
    lanes.loop.turn()
    with pytest.raises(RuntimeError, match="settled once"):
        delivery.settle(Verdict.ACK)
    lanes.publishing.receive(fate)
    lanes.loop.turn()
    with pytest.raises(RuntimeError, match="settled once"):
        delivery.settle(Verdict.ACK)


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


# ---- any schedule, against a broker that keeps the rules ----


class ModelBroker:
    """RabbitMQ's side of one session: what is unacked, what was published, and the rules."""

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
        """Routing key of a reply or copy → the delivery that waits for it, its verdict, and whether
        a reply comes before that."""
        self.pausing: list[int] = []
        """Tags of deliveries that go back after a pause."""
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
        """After a turn only acks may still be due, and only while a confirm is to come.

        They are fewer than a quarter of the prefetch.
        """
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


# ---- what the broker will never take ----


class Refusing:
    """Takes publishings, and tells at once that some are impossible."""

    def __init__(self, *impossible: bytes) -> None:
        self.impossible = impossible
        self.sent: list[bytes] = []
        self.finished: list[tuple[int, Verdict | None]] = []
        self.replies = self

    def publish(self, publishing: Publishing, waiting: Confirmable) -> bool:
        self.sent.append(publishing.body)
        if publishing.body in self.impossible:
            waiting.impossible("too large")
            return False
        waiting.confirmed(Confirm.CONFIRMED)
        return True

    def finish(self, tag: int, verdict: Verdict | None) -> None:
        self.finished.append((tag, verdict))

    def requeue(self, tag: int) -> None:
        raise AssertionError("it would be refused again")


def body_of(body: bytes) -> Publishing:
    return Publishing("q", body, Properties())


@pytest.mark.parametrize(
    ("impossible", "sent"),
    [
        ((b"large",), [b"large", b"copy", b"error"]),
        ((b"large", b"error"), [b"large", b"copy", b"error"]),  # there is no third answer
        ((b"large", b"copy"), [b"large", b"copy", b"error"]),
    ],
)
def test_an_impossible_reply_can_be_replaced_once(
    impossible: tuple[bytes, ...], sent: list[bytes]
) -> None:
    lane = Refusing(*impossible)
    told: list[tuple[bytes, str]] = []

    def on_impossible(delivery: Delivery, reason: str) -> None:
        told.append((delivery.body, reason))
        delivery.settle(Verdict.ACK, body_of(b"error"), body_of(b"copy"))

    delivery = LaneDelivery("", "q", False, Properties(), b"request", 7, lane, on_impossible)
    delivery.settle(Verdict.ACK, body_of(b"large"))
    assert told == [(b"request", "too large")]
    assert lane.sent == sent
    kept_by_the_broker = Verdict.REJECT if b"copy" in impossible else Verdict.ACK
    assert lane.finished == [(7, kept_by_the_broker)]


def test_where_nobody_listens_an_impossible_reply_is_left_out() -> None:
    lane = Refusing(b"large")
    delivery = LaneDelivery("", "q", False, Properties(), b"request", 7, lane, None)
    delivery.settle(Verdict.ACK, body_of(b"large"))
    assert lane.finished == [(7, Verdict.ACK)]


def test_a_reply_that_cannot_be_written_after_its_copy_is_left_out() -> None:
    class Mute(Refusing):
        def publish(self, publishing: Publishing, waiting: Confirmable) -> bool:
            if publishing.body == b"odd":
                raise ValueError("properties of 5000 bytes do not fit a frame")
            return super().publish(publishing, waiting)

    lane = Mute()
    delivery = LaneDelivery("", "q", False, Properties(), b"request", 7, lane, None)
    delivery.settle(Verdict.ACK, body_of(b"odd"), body_of(b"copy"))
    assert (lane.sent, lane.finished) == ([b"copy"], [(7, Verdict.ACK)])
