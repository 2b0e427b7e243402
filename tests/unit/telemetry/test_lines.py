"""Log lines as text: whatever is in them, they are written, and no terminal obeys them."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.telemetry.lines import to_json
from bridge.telemetry.logs import LogFormat, formatter, get_logger

log = get_logger("bridge.somewhere")
theirs = logging.getLogger("theirs")


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


ROUND: list[Any] = [1]
ROUND.append(ROUND)

HARD = {
    "half a pair": "\ud800",
    "half a pair inside": {"deep": ["a\udfffb", {"\ud800": 1}]},
    "above 64 bits": 2**64,
    "far above": -(10**6000),
    "keys that are no text": {1: "a", None: "b", (1,): "c"},
    "round": ROUND,
    "unspeakable": Unspeakable(),
    "unspeakable inside": [Unspeakable()],
    "bytes": b"\xff\xed\xa0\x80",
    "a set": {1},
    "not a number": float("nan"),
}
"""Values that JSON, or some writer of it, has no form for."""


@pytest.fixture(params=[LogFormat.JSON, LogFormat.CONSOLE])
def lines(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Callable[[], str]]:
    """What a command has written since the last call, and what logging says when it cannot."""
    # pytest's own handler has its own way with lines that it cannot write.
    monkeypatch.setattr(type(caplog.handler), "handleError", lambda *_: None)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(request.param, stream))
    for name in (log.name, theirs.name):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False

    def written() -> str:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return text

    yield written
    for name in (log.name, theirs.name):
        logger = logging.getLogger(name)
        logger.removeHandler(handler)
        logger.propagate = True


@pytest.mark.parametrize("value", HARD.values(), ids=HARD)
def test_a_line_is_written_whatever_is_in_it(lines: Callable[[], str], value: Any) -> None:
    log.warning("hard", station="CP1", value=value)
    written = lines()
    assert "Traceback" not in written
    assert written.count("\n") == 1
    assert "hard" in written
    assert "CP1" in written


@pytest.mark.parametrize("text", ["\ud800", "\x1b[2J", "\x9b2J"])
def test_so_is_the_text_of_a_failure(lines: Callable[[], str], text: str) -> None:
    try:
        int(text)
    except ValueError:
        log.exception("failed")
    theirs.warning("%s", text)
    written = lines()
    assert "ValueError: " in written
    assert "Logging error" not in written
    assert "\x1b[2J" not in written
    assert "\x9b" not in written


def test_a_line_whose_arguments_do_not_fit_is_written_with_what_is_wrong(
    lines: Callable[[], str],
) -> None:
    theirs.warning("%d stations", "many")
    written = lines()
    assert written.count("\n") == 1
    assert "%d stations" in written
    assert "TypeError" in written
    assert "theirs" in written


CONTROLS = "\x07\x08\r\x1b[31m\x7f\x85\x9b2J\u202e\u2028"


@pytest.mark.parametrize("place", ["value", "inside", "key", "event"])
def test_nothing_in_a_line_commands_a_terminal(lines: Callable[[], str], place: str) -> None:
    for text in (CONTROLS, CONTROLS + " and a space"):
        match place:
            case "value":
                log.warning("event", value=text)
            case "inside":
                log.warning("event", value={"deep": [text]})
            case "key":
                log.warning("event", **{text: 1})
            case _:
                theirs.warning(text)
        written = lines()
        assert not [sign for sign in written if not sign.isprintable() and sign != "\n"]
        assert written.count("\n") == 1


def test_a_value_cannot_begin_a_new_line(lines: Callable[[], str]) -> None:
    log.warning("event", value="a\n2026-01-01 [error] forged")
    assert lines().count("\n") == 1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters()), VALUES))
def test_any_line_is_json(line: dict[str, Any]) -> None:
    written = to_json(line)
    assert written.isprintable()
    assert isinstance(json.loads(written), dict)


def test_what_is_escaped_is_read_as_it_was() -> None:
    line = {"é": "\x9b\u202e\U000e0001 ü", "data": "\x1b"}
    assert json.loads(to_json(line)) == line
