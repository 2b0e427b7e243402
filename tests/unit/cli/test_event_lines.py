"""Events as lines: readable at 80 columns, whoever wrote what is in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli.event_lines import bodies, lines, one_line
from bridge.telemetry.events import Event

TIME = "2026-03-01T08:15:00.123Z"


def test_an_event_is_a_line() -> None:
    event = Event(
        TIME, "accepted", "CP001", "com.acme", "GetTariff", answer_s=0.0012, status="Accepted"
    )
    assert lines(event, 80) == [
        "08:15:00.123 accepted          CP001        com.acme GetTariff            1.2 ms"
    ]


def test_what_is_unusual_stands_below_it() -> None:
    event = Event(
        TIME,
        "failed",
        "CP001",
        "com.acme",
        "Read",
        ocpp_version="ocpp1.6",
        ocpp_message_id="42",
        code="InternalError",
        reason="retries-exhausted",
        error="ConnectionError",
        attempt=5,
        redelivered=True,
        waiting_s=0.25,
        answer_s=12.0,
    )
    first, *rest = lines(event, 80)
    assert first.endswith("   12.0 s")
    assert " ".join(line.strip() for line in rest) == (
        "ConnectionError, InternalError, retries-exhausted, attempt 5, redelivered, "
        "waited 250.0 ms, ocpp1.6 id 42"
    )
    assert all(line.startswith(" " * 13) for line in rest)


def test_what_nobody_can_name_has_a_question_mark() -> None:
    (line,) = lines(Event(TIME, "dropped"), 80)
    assert line.split() == ["08:15:00.123", "dropped", "?", "?", "-"]


text = st.text(max_size=300)


@given(
    event=st.builds(
        Event,
        time=text,
        outcome=text,
        station=text,
        vendor=text,
        message=text,
        ocpp_message_id=text,
        code=text,
        error=text,
        request=st.none() | text,
        answer=st.none() | text,
    ),
    width=st.integers(0, 300),
)
def test_no_line_is_too_wide_or_commands_a_terminal(event: Event, width: int) -> None:
    shown = lines(event, width)
    assert all(len(line) <= max(80, width) for line in shown)
    for line in shown + bodies(event):
        assert line.isprintable()


def test_bodies_are_shown_as_far_as_there_are_any() -> None:
    assert bodies(Event(TIME, "accepted")) == []
    event = Event(TIME, "accepted", request='{"a":\n1}', answer_size=100_000)
    assert [line.strip() for line in bodies(event)] == [
        r'request: {"a":\n1}',
        "answer: 100,000 bytes, too large for an event",
    ]


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "\x1b[2J", "\x9b", "\u202e", "\udcff"])
def test_one_line_is_one_line(text: str) -> None:
    assert one_line(text).isprintable()
