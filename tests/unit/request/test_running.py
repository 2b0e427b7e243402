"""What runs for a request, and the first of answer, time-out and loss, which ends it."""

import asyncio
import contextlib
import gc
import sys
import time
from asyncio import Task
from collections.abc import Coroutine
from typing import Any

import pytest

from bridge.request.incoming import Request
from bridge.request.outcome import Dropped, Late, Offline, Outcome, Reply
from bridge.request.running import Race, in_thread, start
from tests.support import UNTIL_SETTLED, Settled, a_request

EAGER = sys.version_info >= (3, 12)
SHORT = 0.02
LONG = 60.0

ANSWER, TIME_OUT, LOSS = Reply(b"{}"), Dropped(), Offline(sent=True)


def answer(request: Request, by: Any, task: "Task[Any]") -> Outcome:
    """What the task returned; Late for one that was cancelled or has raised."""
    assert by == "handler"
    if task.cancelled() or task.exception() is not None:
        return Late()
    outcome: Outcome = task.result()
    return outcome


class Track:
    """Where races are run."""

    def __init__(self) -> None:
        self.settled = Settled()
        self.held: set[Race] = set()

    def race(self) -> Race:
        return Race(
            a_request(),
            "handler",
            self.held,
            self.settled,
            answer,
            lambda _, by: TIME_OUT,
            lambda _, by: LOSS,
        )

    def run(
        self,
        coroutine: Coroutine[Any, Any, Any],
        *,
        timeout: float = LONG,
        deadline: float | None = None,
    ) -> tuple[Race, "Task[Any]"]:
        """The task has run up to where it first waits."""
        loop = asyncio.get_running_loop()
        race, task = self.race(), start(coroutine, loop)
        race.follow(task, loop, timeout, deadline)
        return race, task

    @property
    def outcomes(self) -> list[Outcome]:
        return self.settled.outcomes


@pytest.fixture
def track() -> Track:
    return Track()


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def answers() -> Outcome:
    return ANSWER


async def answers_later(turns: int = 1) -> Outcome:
    for _ in range(turns):
        await asyncio.sleep(0)
    return ANSWER


async def waits_for_ever() -> None:
    await asyncio.Event().wait()


# ---- what runs ----


async def test_a_task_begins_at_once_where_the_interpreter_can() -> None:
    begun: list[bool] = []

    async def begins() -> str:
        begun.append(True)
        return "done"

    task = start(begins(), asyncio.get_running_loop())
    assert (begun == [True], task.done()) == (EAGER, EAGER)
    assert await task == "done"


def test_a_stop_iteration_cannot_leave_a_thread_as_such() -> None:
    def stops() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="the handler raised StopIteration"):
        in_thread(stops)
    assert in_thread(max, 1, 2) == 2


# ---- the answer ----


@pytest.mark.skipif(not EAGER, reason="before 3.12 no task begins at once")
async def test_a_task_that_has_ended_already_settles_the_request_at_once(track: Track) -> None:
    track.run(answers())
    assert track.outcomes == [ANSWER]
    assert not track.held


@pytest.mark.parametrize("coroutine", [answers, answers_later])
async def test_the_answer_settles_the_request(track: Track, coroutine: Any) -> None:
    race, _ = track.run(coroutine())
    await turns()
    assert track.outcomes == [ANSWER]
    assert race.over
    assert not track.held


async def test_a_race_is_held_until_it_is_over(track: Track) -> None:
    race, _ = track.run(answers_later())
    assert track.held == {race}
    assert not race.over
    await turns()
    assert not track.held


async def test_a_task_that_is_cancelled_by_somebody_else_has_ended(track: Track) -> None:
    _, task = track.run(waits_for_ever())
    await turns(1)
    task.cancel()
    await turns()
    assert track.outcomes == [Late()]


# ---- the time-out ----


async def test_out_of_time_the_request_is_settled_before_the_task_is_cancelled(
    track: Track,
) -> None:
    settled_by_then: list[int] = []

    async def notes() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            settled_by_then.append(len(track.outcomes))
            raise

    _, task = track.run(notes(), timeout=SHORT)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert settled_by_then == [1]
    assert track.outcomes == [TIME_OUT]
    assert not track.held


async def test_the_deadline_is_a_time_out_too(track: Track) -> None:
    track.run(waits_for_ever(), deadline=time.time() + SHORT)
    assert await track.settled.first() == TIME_OUT


async def test_a_deadline_that_has_passed_leaves_no_time(track: Track) -> None:
    track.run(waits_for_ever(), deadline=time.time() - LONG)
    async with asyncio.timeout(UNTIL_SETTLED):
        assert await track.settled.first() == TIME_OUT


async def test_a_task_that_swallows_its_cancellation_settles_nothing_more(track: Track) -> None:
    go_on = asyncio.Event()

    async def swallows() -> Outcome:
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        return ANSWER

    _, task = track.run(swallows(), timeout=SHORT)
    await track.settled.first()
    go_on.set()
    await task
    await turns()
    assert track.outcomes == [TIME_OUT]


async def test_an_answer_wins_over_a_time_out_in_the_same_turn_of_the_loop(track: Track) -> None:
    """Something blocked the loop, and held up both."""

    async def blocks() -> Outcome:
        await asyncio.sleep(0)
        time.sleep(2 * SHORT)  # noqa: ASYNC251 - what blocks the loop
        return ANSWER

    track.run(blocks(), timeout=SHORT)
    await track.settled.first()
    await turns()
    assert track.outcomes == [ANSWER]


async def test_only_a_task_that_waits_after_its_first_step_is_timed(track: Track) -> None:
    """On CPython 3.11 as well, where the first step comes in the loop's next turn."""
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_later = loop.call_later

    def counting(delay: float, *arguments: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(delay)
        return call_later(delay, *arguments, **more)

    loop.call_later = counting  # type: ignore[method-assign, assignment]
    track.run(answers())
    await turns()
    assert timers == []
    track.run(answers_later())
    await turns()
    assert timers == [LONG]
    assert track.outcomes == [ANSWER, ANSWER]


# ---- loss ----


async def test_a_loss_settles_the_request_and_cancels_the_task(track: Track) -> None:
    race, task = track.run(waits_for_ever())
    await turns(1)
    race.lose()
    assert track.outcomes == [LOSS]
    await turns()
    assert task.cancelled()
    race.lose()
    assert track.outcomes == [LOSS]


async def test_an_answer_that_is_there_wins_over_a_loss(track: Track) -> None:
    race, task = track.run(answers_later())
    while not task.done():
        await asyncio.sleep(0)
    assert not race.over, "its callback comes in the next turn of the loop"
    race.lose()
    assert track.outcomes == [ANSWER]


async def test_who_loses_its_own_request_goes_on_to_its_end(track: Track) -> None:
    """A station's handler may disconnect the station; it must be able to finish that."""
    finished = asyncio.Event()
    race = track.race()

    async def loses() -> Outcome:
        await asyncio.sleep(0)
        race.lose()
        await asyncio.sleep(0)
        finished.set()
        return ANSWER

    loop = asyncio.get_running_loop()
    race.follow(start(loses(), loop), loop, LONG, None)
    async with asyncio.timeout(UNTIL_SETTLED):
        await finished.wait()
    await turns()
    assert track.outcomes == [LOSS]


async def test_a_request_can_be_lost_in_the_first_step_of_what_runs_for_it(track: Track) -> None:
    finished = asyncio.Event()
    race = track.race()

    async def loses() -> Outcome:
        race.lose()
        await asyncio.sleep(0)
        finished.set()
        return ANSWER

    loop = asyncio.get_running_loop()
    race.follow(start(loses(), loop), loop, SHORT, None)
    async with asyncio.timeout(UNTIL_SETTLED):
        await finished.wait()
    await turns()
    assert track.outcomes == [LOSS]


async def test_without_an_outcome_of_its_own_a_loss_is_a_time_out(track: Track) -> None:
    race = Race(a_request(), "handler", track.held, track.settled, answer, lambda _, by: TIME_OUT)
    race.lose()
    assert track.outcomes == [TIME_OUT]


# ---- the end ----


async def test_what_is_abandoned_is_cancelled_and_never_settled(track: Track) -> None:
    race, task = track.run(waits_for_ever(), timeout=SHORT)
    await turns(1)
    race.abandon()
    await turns()
    assert task.cancelled()
    assert (race.over, track.held, track.outcomes) == (True, set(), [])


async def test_an_error_after_the_end_is_nobodys_business(track: Track) -> None:
    """It must not be reported as one that was never retrieved."""
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))

    async def raises_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("secret") from None

    track.run(raises_when_cancelled(), timeout=SHORT)
    await track.settled.first()
    await turns()
    gc.collect()
    assert track.outcomes == [TIME_OUT]
    assert reported == []
