"""What `dtbridge top` shows, as wide and as high as the terminal is."""

import io

import pytest
import rich.console

from bridge.cli.top_screen import screen
from bridge.top.view import VendorRow, View, WorkerRow


def a_view(vendors: int = 1, workers: int = 1, name: str = "com.acme") -> View:
    return View(
        seconds=2.0,
        vendors=tuple(
            VendorRow(
                vendor=f"{name}{number or ''}",
                rate=120_400.0,
                failures=3.2,
                answer_p50=0.0354,
                answer_p99=12.4,
                in_hand=9_870,
                waiting=412,
                backlog=120_000,
                oldest=119.0,
                dead=3_100,
                why="all 200 handlers are busy" if not number else "",
            )
            for number in range(vendors)
        ),
        workers=tuple(
            WorkerRow(
                name=f"10.0.0.{number}:9100",
                state="consuming",
                up=180_000,
                rate=9_870.0,
                processor=0.97,
                memory=60 * 2**20,
                loop_lag_p99=0.0123,
                version="0.1.0",
                compiled="yes",
            )
            for number in range(workers)
        ),
        dead_letters=31,
        unknown_vendor=0,
        broker="management",
        broker_error="",
    )


def shown(view: View, width: int, height: int | None = None) -> list[str]:
    written = io.StringIO()
    rich.console.Console(width=width, file=written).print(screen(view, width, height))
    return written.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_everything_fits_and_no_number_is_cut(width: int) -> None:
    lines = shown(a_view(), width)
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    for part in (
        "com.acme", "120k", "3.2", "35ms", "12s", "9.9k", "412", "119s", "3.1k",
        "10.0.0.0:9100", "consuming", "97%", "60M", "all 200 handlers are busy", "31 dead letters",
    ):  # fmt: skip
        assert part in text, part
    assert ("handler p50" in text) == (width >= 120)


@pytest.mark.parametrize(("height", "vendors", "workers"), [(24, 100, 50), (50, 3, 100)])
def test_a_low_terminal_shows_the_first_and_how_many_more(
    height: int, vendors: int, workers: int
) -> None:
    lines = shown(a_view(vendors, workers), 80, height)
    assert len(lines) <= height
    assert any("more (--json has all)" in line for line in lines)


def test_a_silent_worker_has_its_reason() -> None:
    view = a_view(workers=0)
    silent = View(
        **{field: getattr(view, field) for field in view.__struct_fields__}
        | {"workers": (WorkerRow(name="a:1", error="it does not answer"),)}
    )
    text = "\n".join(shown(silent, 80))
    assert "it does not" in text
    assert "(1 silent)" in text


def test_nothing_that_a_worker_says_is_a_command_or_markup() -> None:
    text = "\n".join(shown(a_view(name="\x1b[2J[bold]"), 100))
    assert "\x1b" not in text
    assert "[bold]" in text
