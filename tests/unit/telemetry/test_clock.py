"""A clock that is set, and an event loop that is held up, are told of."""

import pytest

from bridge.telemetry.clock import LOOK, QUIET, ClockWatch


class Clocks:
    """Both clocks, set by the test."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.monotonic = 50.0
        self.watch = ClockWatch(lambda: self.wall, lambda: self.monotonic)

    def go_on(self, seconds: float = LOOK, *, wall: float | None = None) -> None:
        """Let time pass, by both clocks unless it is said, and look."""
        self.monotonic += seconds
        self.wall += seconds if wall is None else wall
        self.watch.look()


@pytest.fixture
async def clocks() -> Clocks:
    clocks = Clocks()
    clocks.watch.start()
    clocks.watch.stop()
    return clocks


@pytest.mark.parametrize("step", [10.0, -10.0, 86_400.0])
async def test_a_clock_that_is_set_is_told_of_once(
    clocks: Clocks, caplog: pytest.LogCaptureFixture, step: float
) -> None:
    clocks.go_on()
    clocks.go_on(wall=LOOK + step)
    clocks.go_on()
    (line,) = caplog.messages
    assert f"seconds={step}" in line
    assert "the clock was set" in line


async def test_a_clock_that_is_kept_right_is_nobodys_business(
    clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        clocks.go_on(wall=LOOK + 0.1)  # slewed, not stepped
    assert not caplog.messages


async def test_a_loop_that_is_held_up_is_told_of_now_and_then(
    clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        clocks.go_on(LOOK + 6.0)
    assert len(caplog.messages) == 1
    assert "the event loop was held up seconds=6.0" in caplog.messages[0]
    clocks.go_on(QUIET + LOOK + 6.0)
    assert len(caplog.messages) == 2


async def test_every_look_measures_how_late_the_loop_is(clocks: Clocks) -> None:
    clocks.go_on()
    clocks.go_on(LOOK - 0.001)  # a timer that is early is not late
    clocks.go_on(LOOK + 0.2)
    assert clocks.watch.lag.count == 3
    assert clocks.watch.lag.sum == pytest.approx(0.2)


@pytest.mark.parametrize(("told_at", "lines"), [(52.0, 0), (50.5, 1)])
async def test_what_somebody_else_has_told_is_not_told_again(
    caplog: pytest.LogCaptureFixture, told_at: float, lines: int
) -> None:
    """The clock's looks are at 51 s and 57 s."""
    now = 50.0
    watch = ClockWatch(lambda: now, lambda: now, told_since=lambda when: told_at >= when)
    watch.start()
    watch.stop()
    for now in (51.0, 57.0):  # noqa: B007 - the clocks read it
        watch.look()
    assert len(caplog.messages) == lines
