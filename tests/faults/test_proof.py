"""The proof can fail: the witness sees a promise broken, and the checker says so."""

import time
from collections.abc import Iterable
from typing import Any

import msgspec
import pamqp.frame
import pytest
from pamqp.commands import Basic, Channel, Confirm
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader

from tests.faults.checker import Checker, Result
from tests.faults.load import Answer, DeadLetter, Fate, Load, Mix, Sent
from tests.faults.proxy import FrameSplitter
from tests.faults.witness import Witness

CONSUMING, PUBLISHING = 1, 2


class Wire:
    """Shows a witness frames, as the proxy does."""

    def __init__(self) -> None:
        self.witness = Witness()
        self._from_worker(PUBLISHING, Confirm.Select())

    def _from_worker(self, connection: int, frame: FrameTypes) -> None:
        self.witness.saw(connection, pamqp.frame.marshal(frame, 1), to_broker=True)

    def _from_broker(self, connection: int, frame: FrameTypes) -> None:
        self.witness.saw(connection, pamqp.frame.marshal(frame, 1), to_broker=False)

    def deliver(
        self,
        tag: int,
        correlation_id: str,
        *,
        deadline: float | None = None,
        redelivered: bool = False,
    ) -> None:
        headers: dict[str, Any] = (
            {} if deadline is None else {"ocpp-deadline": int(deadline * 1000)}
        )
        properties = Basic.Properties(
            correlation_id=correlation_id, reply_to="amq.gen-x", headers=headers
        )
        self._from_broker(CONSUMING, Basic.Deliver("c", tag, redelivered, "datatransfer", "v"))
        self._from_broker(CONSUMING, ContentHeader(body_size=2, properties=properties))

    def publish(self, correlation_id: str) -> None:
        self._from_worker(PUBLISHING, Basic.Publish(exchange="", routing_key="amq.gen-x"))
        self._from_worker(
            PUBLISHING,
            ContentHeader(body_size=2, properties=Basic.Properties(correlation_id=correlation_id)),
        )

    def confirm(self, number: int, *, multiple: bool = False) -> None:
        self._from_broker(PUBLISHING, Basic.Ack(number, multiple))

    def open_channel_anew(self) -> None:
        self._from_worker(PUBLISHING, Channel.Open())
        self._from_worker(PUBLISHING, Confirm.Select())

    def consume(self, tag: str, *, no_ack: bool) -> None:
        self._from_worker(CONSUMING, Basic.Consume(queue="q", consumer_tag=tag, no_ack=no_ack))

    def close_channel(self) -> None:
        self._from_worker(CONSUMING, Channel.Close(200, "", 0, 0))
        self._from_broker(CONSUMING, Channel.CloseOk())

    def refuse(self, number: int) -> None:
        self._from_broker(PUBLISHING, Basic.Nack(number))

    def acknowledge(self, tag: int, *, multiple: bool = False) -> None:
        self._from_worker(CONSUMING, Basic.Ack(tag, multiple))


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_an_acknowledgement_after_the_confirm_is_as_promised(wire: Wire) -> None:
    wire.deliver(1, "a")
    wire.publish("a")
    wire.confirm(1)
    wire.acknowledge(1)
    assert wire.witness.early == []
    assert (wire.witness.acknowledged, wire.witness.unsettled) == (1, 0)


def test_an_acknowledgement_before_the_confirm_is_seen(wire: Wire) -> None:
    wire.deliver(1, "a")
    wire.publish("a")
    wire.acknowledge(1)
    wire.confirm(1)
    assert wire.witness.early == ["a"]


def test_one_acknowledgement_of_many_must_cover_no_unconfirmed_one(wire: Wire) -> None:
    for tag, correlation_id in enumerate("abc", 1):
        wire.deliver(tag, correlation_id)
        wire.publish(correlation_id)
    wire.confirm(1)
    wire.confirm(3)
    wire.acknowledge(3, multiple=True)
    assert wire.witness.early == ["b"]


def test_a_refused_publishing_is_no_confirm(wire: Wire) -> None:
    wire.deliver(1, "a")
    wire.publish("a")
    wire.refuse(1)
    wire.acknowledge(1)
    assert wire.witness.early == ["a"]


def test_a_channel_that_is_opened_anew_counts_its_publishings_anew(wire: Wire) -> None:
    wire.deliver(1, "a")
    wire.publish("a")
    wire.refuse(1)
    wire.open_channel_anew()
    wire.publish("a")
    wire.confirm(1)
    wire.acknowledge(1)
    assert wire.witness.early == []


def test_the_confirm_for_an_earlier_delivery_does_not_count_for_the_next(wire: Wire) -> None:
    wire.deliver(1, "a")
    wire.publish("a")
    wire.confirm(1)
    wire.deliver(2, "a", redelivered=True)
    wire.acknowledge(2)
    assert wire.witness.early == ["a"]
    assert wire.witness.redeliveries["a"] == 1


def test_after_its_deadline_a_request_may_go_without_an_answer(wire: Wire) -> None:
    wire.deliver(1, "a", deadline=time.time() - 1)
    wire.acknowledge(1)
    assert (wire.witness.early, wire.witness.late) == ([], {"a"})


def test_what_was_in_hand_on_a_lost_connection_is_unsettled_no_more(wire: Wire) -> None:
    wire.deliver(1, "a")
    assert wire.witness.unsettled == 1
    wire.witness.gone(CONSUMING)
    assert (wire.witness.unsettled, wire.witness.lost["a"]) == (0, 1)


def test_what_was_in_hand_on_a_channel_that_is_closed_is_unsettled_no_more(wire: Wire) -> None:
    wire.deliver(1, "a")
    wire.close_channel()
    assert (wire.witness.unsettled, wire.witness.lost["a"]) == (0, 1)


def test_what_nobody_has_to_acknowledge_is_never_unsettled(wire: Wire) -> None:
    wire.consume("c", no_ack=True)
    wire.deliver(1, "a")
    assert wire.witness.unsettled == 0


# ---- the checker ----


def answer(number: int, run: str = "r", status: str = "Accepted") -> Answer:
    body = msgspec.json.encode({"status": status, "data": {"number": number, "run": run}})
    return Answer("DataTransferResponse", body, 0.0)


def sent(*answers: Answer, message: str = "Echo", dead: Iterable[str] = ()) -> Sent:
    letters = [DeadLetter(reason, False) for reason in dead]
    return Sent(1, message, 1, True, None, 0.0, Fate.ACCEPTED, list(answers), letters)


def checked(
    request: Sent,
    *,
    redeliveries: int = 0,
    deliveries: int = 1,
    lost: int = 0,
    may_rerun: bool = False,
    may_expire: bool = False,
    may_move: bool = False,
    may_wear_out: bool = False,
    left: dict[str, int] | None = None,
) -> Result:
    load = Load(["amqp://localhost"], Mix({"Echo": 1}), rate=1, seed=1)
    load.sent[1] = request
    witness = Witness()
    witness.redeliveries[load.correlation_id(1)] = redeliveries
    witness.deliveries[load.correlation_id(1)] = deliveries
    witness.lost[load.correlation_id(1)] = lost
    checker = Checker(
        "a fault",
        load,
        witness,
        may_rerun=may_rerun,
        may_expire=may_expire,
        may_move=may_move,
        may_wear_out=may_wear_out,
    )
    return checker.check(left or {})


def test_a_request_with_its_one_answer_is_as_promised() -> None:
    result = checked(sent(answer(1)))
    assert result.holds
    assert (result.requests, result.answered, result.lost) == (1, 1, 0)


def test_a_stored_answer_sent_again_after_a_redelivery_is_absorbed() -> None:
    result = checked(sent(answer(1), answer(1)), redeliveries=1)
    assert result.holds
    assert (result.absorbed, result.reran) == (1, 0)


def test_a_failed_request_has_its_call_error_and_is_kept() -> None:
    call_error = Answer(
        "CallError", b'{"errorCode":"InternalError","errorDescription":"x","errorDetails":{}}', 0.0
    )
    assert checked(sent(call_error, message="Raise", dead=["failed"])).holds


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (sent(), "lost: 1 (Echo)"),
        (sent(answer(2)), "the answer to number 2"),
        (sent(answer(1, status="Rejected")), "Rejected"),
        (sent(answer(1), answer(1)), "2 answers, and 0 redeliveries"),
        (sent(answer(1), dead=["delivery_limit"]), "answered and dead-lettered"),
        (sent(answer(1), message="Raise"), "DataTransferResponse"),
        (sent(dead=["expired"]), "1 expired"),
    ],
)
def test_a_broken_promise_is_named(request_: Sent, words: str) -> None:
    result = checked(request_)
    assert words in " ".join(result.violations)


def test_a_handler_that_ran_twice_is_named_where_it_must_not() -> None:
    twice = sent(answer(1, "one"), answer(1, "other"))
    assert "ran again" in " ".join(checked(twice, redeliveries=1).violations)
    allowed = checked(twice, redeliveries=1, may_rerun=True)
    assert allowed.holds
    assert allowed.reran == 1


def test_what_many_deaths_wear_out_may_have_been_answered_and_nothing_else_may() -> None:
    assert checked(sent(answer(1), dead=["delivery_limit"]), may_wear_out=True).holds
    assert not checked(sent(answer(1), dead=["failed"]), may_wear_out=True).holds
    assert not checked(sent(), may_wear_out=True).holds


def test_what_was_answered_may_expire_if_its_acknowledgement_was_lost() -> None:
    both = sent(answer(1), dead=["expired"])
    assert checked(both, lost=1, may_expire=True).holds
    assert not checked(both, may_expire=True).holds
    assert not checked(both, lost=1).holds


def test_what_was_moved_and_came_again_may_be_answered_again_and_nothing_else_may() -> None:
    twice = sent(answer(1), answer(1))
    assert checked(twice, deliveries=2, may_move=True).holds
    assert not checked(twice, may_move=True).holds
    assert not checked(twice, deliveries=2).holds


def test_messages_left_in_queues_are_named() -> None:
    assert checked(sent(answer(1)), left={"q": 3}).violations == ["left in queues: q: 3"]


def test_a_load_that_never_ran_proves_nothing() -> None:
    never = sent()
    never.fate = Fate.UNKNOWN
    assert checked(never).violations == ["the load never ran"]


def test_frames_are_whole_whatever_the_pieces() -> None:
    frames = [
        b"AMQP\x00\x00\x09\x01",
        pamqp.frame.marshal(Basic.Ack(1), 1),
        pamqp.frame.marshal(Basic.Nack(2), 7),
    ]
    stream = b"".join(frames)
    for size in range(1, len(stream) + 1):
        splitter = FrameSplitter()
        found = [
            frame
            for at in range(0, len(stream), size)
            for frame in splitter.feed(stream[at : at + size])
        ]
        assert found == frames
