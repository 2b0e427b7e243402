"""Each publishing meets its fate once: confirmed, returned, refused or lost."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rabbitmq.delivery import Pending
from bridge.rabbitmq.frames.ids import ProtocolError
from bridge.rabbitmq.frames.writing import Encoder
from bridge.rabbitmq.outbox import LARGE
from bridge.rabbitmq.publishing import PublishLane
from bridge.transport import Confirm, Properties, Publishing
from tests.unit.rabbitmq.lanes import PUBLISH, Lanes, publish, reply, returned
from tests.unit.rabbitmq.wire import ack, frame, message, method, nack, short

C, R, X, L = Confirm.CONFIRMED, Confirm.RETURNED, Confirm.REFUSED, Confirm.LOST
FOUR = tuple(reply("reply", str(n), mandatory=True) for n in range(1, 5))


@pytest.fixture
def lanes() -> Lanes:
    return Lanes()


def test_nobody_may_deliver_or_cancel_on_the_publishing_channel() -> None:
    for wrong in (
        message(PUBLISH, 1, b""),
        frame(1, PUBLISH, method(60, 30, short(b"ctag"), b"\x00")),
    ):
        with pytest.raises(ProtocolError, match="does not consume"):
            Lanes().publishing.stream.feed(wrong)


def test_the_end_of_the_publishing_channel_is_told_with_its_reason(lanes: Lanes) -> None:
    lanes.publishing.receive(
        frame(1, PUBLISH, method(20, 40, b"\x01\x94", short(b"NOT_FOUND"), bytes(4)))
    )
    assert lanes.ends == ["the broker closed the publishing channel: 404 NOT_FOUND"]


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


def test_a_large_publishing_keeps_its_place_and_is_confirmed_like_the_others(
    lanes: Lanes,
) -> None:
    bodies = [b"small", bytes(LARGE), b"next"]
    publishings = [Publishing("reply", body, Properties()) for body in bodies]
    told = publish(lanes, *publishings)
    lanes.loop.turn()
    encoder = Encoder(4096)
    expected = b"".join(encoder.publish(PUBLISH, publishing) for publishing in publishings)
    assert lanes.publishing.socket.taken() == expected
    lanes.publishing.receive(ack(PUBLISH, 3, multiple=True))
    assert told == [[C], [C], [C]]


def test_every_return_is_told(lanes: Lanes) -> None:
    publish(lanes, *FOUR)
    lanes.publishing.receive(returned("reply", "2") + returned("nobody's", None))
    assert lanes.told == ["returned", "returned"]


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


@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize("tag", [5, 2**64 - 1])
def test_a_confirm_of_what_was_never_sent_breaks_the_protocol(
    lanes: Lanes, tag: int, multiple: bool
) -> None:
    told = publish(lanes, *FOUR)
    with pytest.raises(ProtocolError, match=f"a confirm of publishing {tag}, and 4 were sent"):
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
        # Returns come in the order of publishing, each before its confirm. Only an ack follows one.
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


def test_every_refusal_is_told(lanes: Lanes) -> None:
    publish(lanes, *FOUR)
    lanes.publishing.receive(nack(PUBLISH, 1) + ack(PUBLISH, 2) + nack(PUBLISH, 4, multiple=True))
    assert lanes.told == ["refused", "refused"]


@pytest.mark.parametrize("multiple", [True, False])
def test_the_work_for_confirms_grows_with_their_number_alone(lanes: Lanes, multiple: bool) -> None:
    """Each confirm begins where the one before it ended. Only plain Python's calls are counted."""
    count = 400
    told = publish(lanes, *[reply() for _ in range(count)])
    calls = 0

    def profile(_: object, event: str, function: object) -> None:
        nonlocal calls
        calls += event == "c_call" and getattr(function, "__name__", "") == "pop"

    sys.setprofile(profile)
    try:
        for number in range(1, count):
            lanes.publish_lane.on_confirm(number, multiple, True)
        lanes.publish_lane.on_confirm(count, True, True)
    finally:
        sys.setprofile(None)
    assert told == [[C]] * count
    assert calls <= 2 * count


def test_what_was_on_its_way_when_the_channel_closed_is_handed_over_in_its_order(
    lanes: Lanes,
) -> None:
    told = publish(lanes, *FOUR)
    lanes.publishing.receive(ack(PUBLISH, 2))
    waiting = lanes.publish_lane.hand_over()
    assert [each.publishing for each in waiting] == [FOUR[0], FOUR[2], FOUR[3]]
    lanes.publish_lane.close()
    assert told == [[], [C], [], []]


# ---- how long confirms take ----


@pytest.fixture
def timed() -> tuple[Lanes, list[float]]:
    """Lanes whose publishings are timed, and the times."""
    lanes, times = Lanes(), list[float]()
    lanes.publish_lane = PublishLane(
        PUBLISH,
        lanes.publishing.outbox,
        Encoder(4096),
        on_end=lanes.ends.append,
        on_returned=lambda: None,
        on_refused=lambda: lanes.told.append("refused"),
        time_confirm=times.append,
    )
    lanes.publishing.stream.register(PUBLISH, lanes.publish_lane)
    return lanes, times


def test_one_publishing_at_a_time_is_timed(timed: tuple[Lanes, list[float]]) -> None:
    lanes, times = timed
    publish(lanes, *FOUR)
    assert not times
    lanes.publishing.receive(ack(PUBLISH, 2))  # not the one that is timed
    assert not times
    lanes.publishing.receive(ack(PUBLISH, 3, multiple=True))
    assert len(times) == 1
    lanes.publishing.receive(ack(PUBLISH, 4))
    assert len(times) == 1  # it was under way before there was one to time
    publish(lanes, FOUR[0], FOUR[1])
    lanes.publishing.receive(ack(PUBLISH, 5))
    assert len(times) == 2
    assert all(0 <= seconds < 60 for seconds in times)


def test_the_time_to_a_refusal_says_nothing_of_confirms(timed: tuple[Lanes, list[float]]) -> None:
    lanes, times = timed
    publish(lanes, FOUR[0])
    lanes.publishing.receive(nack(PUBLISH, 1))
    assert (times, lanes.told) == ([], ["refused"])
    publish(lanes, FOUR[1])
    lanes.publishing.receive(ack(PUBLISH, 2))
    assert len(times) == 1
