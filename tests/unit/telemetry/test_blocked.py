"""What blocks an event loop is told of while it still does, and once."""

import asyncio
import inspect
import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import pytest

from bridge.telemetry import blocked
from bridge.telemetry.blocked import FRAMES, OTHER, STACK_LENGTH, Holder, LoopWatch, shown

BOUND = 0.2
PATIENCE = 20.0


class Told(logging.Handler):
    """The lines about a blocked loop, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.news = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.__dict__["bridge"])
        self.news.set()


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    logging.getLogger("bridge.loop").addHandler(told)
    yield told
    logging.getLogger("bridge.loop").removeHandler(told)


KEY = object()


def find_the_culprit(stack: Sequence[FrameType]) -> Holder | None:
    if any(frame.f_code is the_culprit.__code__ for frame in stack):
        return Holder("the culprit", KEY, {"station": "CP" + 300 * "1"}, ("v", "m"))
    return None


def the_culprit(told: Told) -> None:
    """Blocks the event loop until somebody has said so."""
    assert told.news.wait(PATIENCE)


async def test_whoever_blocks_the_loop_is_named_while_it_does(told: Told) -> None:
    watch = LoopWatch(BOUND, find_the_culprit)
    watch.start()
    began = time.monotonic()
    the_culprit(told)  # returns when the line is there
    watch.stop()
    (line,) = told.lines
    assert line["event"] == "the event loop is blocked"
    assert line["handler"] == "the culprit"
    assert line["station"] == "CP" + 253 * "1"
    assert line["seconds"] >= BOUND
    assert "make such a handler a plain def" in line["hint"]
    assert "in the_culprit\n    assert told.news.wait(PATIENCE)" in line["stack"]
    assert (watch.count, watch.blamed) == (1, {("v", "m"): 1})
    assert watch.noticed_since(began)
    assert not watch.noticed_since(time.monotonic())


async def test_what_blocks_on_and_on_is_told_once(told: Told) -> None:
    watch = LoopWatch(BOUND, find_the_culprit)
    watch.start()
    the_culprit(told)
    time.sleep(4 * BOUND)  # noqa: ASYNC251 - the loop is to be blocked
    watch.stop()
    assert len(told.lines) == 1


async def until_blocked_again(watch: LoopWatch, times: int) -> None:
    """Let the loop turn, then block it, until that has been seen once more."""
    await asyncio.sleep(BOUND)
    end = time.monotonic() + PATIENCE
    while watch.count < times:
        assert time.monotonic() < end
        time.sleep(0.01)  # noqa: ASYNC251 - the loop is to be blocked


async def test_one_who_blocks_again_is_counted_and_told_of_once_a_minute(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = LoopWatch(BOUND, lambda _: Holder("again", KEY))
    watch.start()
    for times in (1, 2, 3):
        await until_blocked_again(watch, times)
    assert len(told.lines) == 1
    told.news.clear()
    monkeypatch.setattr(blocked, "QUIET", 0.0)
    await until_blocked_again(watch, 4)
    assert told.news.wait(PATIENCE)
    watch.stop()
    assert [line.get("not_told_before") for line in told.lines] == [None, 2]


async def test_many_that_run_one_after_the_other_are_not_blamed_on_the_last(told: Told) -> None:
    names = map(str, itertools.count())
    watch = LoopWatch(BOUND, lambda _: Holder(f"{next(names)} of many", object()))
    watch.start()
    assert told.news.wait(PATIENCE)
    watch.stop()
    assert "many handlers run one after the other" in told.lines[0]["hint"]


async def test_calls_of_one_handler_one_after_the_other_are_its_own_fault(told: Told) -> None:
    watch = LoopWatch(BOUND, lambda _: Holder("one", object(), {}, ("v", "m")))
    watch.start()
    assert told.news.wait(PATIENCE)
    watch.stop()
    assert told.lines[0]["hint"].startswith("several calls of this handler ran one after the other")
    assert watch.blamed == {("v", "m"): 1}


async def test_who_held_the_loop_is_counted_only_if_it_did_for_most_of_the_time(
    told: Told,
) -> None:
    names = itertools.count()
    watch = LoopWatch(BOUND, lambda _: Holder(str(n := next(names)), KEY, {}, ("v", str(n))))
    watch.start()
    assert told.news.wait(PATIENCE)
    watch.stop()
    assert watch.blamed == {OTHER: 1}


async def test_a_stack_begins_where_the_handler_does(told: Told) -> None:
    def find(stack: Sequence[FrameType]) -> Holder | None:
        codes = [frame.f_code for frame in stack]
        at = codes.index(the_culprit.__code__)
        return Holder("the culprit", KEY, {}, OTHER, at)

    watch = LoopWatch(BOUND, find)
    watch.start()
    the_culprit(told)
    watch.stop()
    assert "in the_culprit" in told.lines[0]["stack"].splitlines()[0]


async def test_where_nobody_is_known_the_stack_begins_above_the_loop(told: Told) -> None:
    watch = LoopWatch(BOUND)
    watch.start()
    the_culprit(told)
    watch.stop()
    assert "test_blocked.py" in told.lines[0]["stack"].splitlines()[0]
    assert "run_forever" not in told.lines[0]["stack"]


async def test_where_nobody_is_known_the_stack_tells(told: Told) -> None:
    watch = LoopWatch(BOUND)
    watch.start()
    the_culprit(told)
    watch.stop()
    (line,) = told.lines
    assert "handler" not in line
    assert "in the_culprit" in line["stack"]


async def test_a_loop_that_turns_is_let_alone(told: Told) -> None:
    watch = LoopWatch(1.0)
    watch.start()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        await asyncio.sleep(0.01)
    watch.stop()
    assert not told.lines


async def test_a_process_that_was_stopped_has_no_handler_to_blame(told: Told) -> None:
    """Its watch was held up as long as its loop was."""
    watch = LoopWatch(10.0, find_the_culprit)
    pulse: Any = watch._pulse
    pulse.start()
    watch.stop()
    pulse._due = time.monotonic() - 60.0
    watch._awake_since = time.monotonic()
    watch._look(time.monotonic())
    assert not told.lines


async def test_a_watch_with_the_bound_0_watches_nothing() -> None:
    before = threading.active_count()
    watch = LoopWatch(0.0)
    watch.start()
    assert threading.active_count() == before
    watch.stop()


async def test_a_find_that_fails_ends_the_watch_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(_: Sequence[FrameType]) -> Holder | None:
        raise ValueError

    watch = LoopWatch(BOUND, fails)
    watch.start()
    end = time.monotonic() + PATIENCE
    while not caplog.messages:
        assert time.monotonic() < end
        time.sleep(0.01)  # noqa: ASYNC251 - the loop is to be blocked
    watch.stop()
    assert caplog.messages == ["the event loop is not watched any more"]


def test_a_stack_is_shown_up_to_its_innermost_frames_and_is_never_long() -> None:
    def even(levels: int) -> str:
        return odd(levels - 1) if levels else shown([i.frame for i in inspect.stack(0)][::-1])

    def odd(levels: int) -> str:
        return even(levels - 1)

    text = even(200)
    assert STACK_LENGTH / 2 < len(text) <= STACK_LENGTH
    assert text.count("in odd") + text.count("in even") <= FRAMES
    assert "shown([" in text.splitlines()[-1]
