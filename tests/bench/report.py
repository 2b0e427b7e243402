"""The tables on the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from tests.bench.machine import Machine
from tests.bench.subjects import Cast
from tests.bench.tables import Measurement, Row, Table
from tests.bench.targets import targets

Column = tuple[str, str, str, int]

COLUMNS: tuple[Column, ...] = (
    ("rate", "trips/s", "{:,.0f}", 1),
    ("cpu_us", "CPU µs", "{:,.1f}", 1),
    ("worker_cpu_us", "worker µs", "{:,.1f}", 1),
    ("calm_p50_us", "calm p50", "{:,.2f}", 1000),
    ("calm_p99_us", "calm p99", "{:,.2f}", 1000),
    ("lone_p50_us", "p50 (1)", "{:,.3f}", 1000),
    ("lone_p99_us", "p99 (1)", "{:,.2f}", 1000),
    ("p50_us", "p50", "{:,.2f}", 1000),
    ("p99_us", "p99", "{:,.2f}", 1000),
    ("last_served_s", "last, s", "{:,.1f}", 1),
    ("refused_handshakes", "again", "{:,.0f}", 1),
    ("station_kib", "KiB/station", "{:,.1f}", 1),
    ("resident_mib", "MiB", "{:,.0f}", 1),
    ("peak_mib", "peak", "{:,.0f}", 1),
    ("growth_mib", "growth", "{:,.1f}", 1),
)
"""Number, heading, format, divisor."""

COMPARED = ("rate", "cpu_us", "lone_p50_us", "p99_us", "station_kib")
"""The numbers that are also shown as a ratio to another row."""

CALM = 0.05
"""The share of the processors that other programs may use without disturbing the numbers much."""

NARROWEST = 130
"""Columns of text when the output is no terminal."""


def make_console() -> Console:
    """A console on which wide tables fit, also in a log."""
    console = Console()
    return console if console.is_terminal else Console(width=NARROWEST)


def make_grid(title: str) -> Grid:
    """An empty table."""
    return Grid(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )


def explain(console: Console, machine: Machine, cast: Cast) -> None:
    """Print the heading."""
    console.print(f"[bold]{machine}[/bold]", highlight=False)
    console.print(
        "Medians over the rounds. CPU: user and system time of the worker per round trip. "
        "p50, p99: latency in ms, (1) at one request outstanding, the rest at 200. "
        "MiB: memory of the worker. x: ratio.",
        highlight=False,
    )
    for line in cast.missing:
        console.print(f"[yellow]{line}[/yellow]", highlight=False)


def unknown(kind: str, given: list[str], known: list[str]) -> str | None:
    """A sentence about the first name that does not exist, or None if all do."""
    wrong = [name for name in given if name not in known]
    return f"There is no {kind} {wrong[0]}; there are {', '.join(known)}." if wrong else None


def disturbance(tables: Sequence[Table[Any]]) -> str | None:
    """A warning when other programs had more than a little of the processors."""
    shares = [
        share
        for table in tables
        for row in table.rows
        if row.median and (share := row.median.others_share)
    ]
    worst = max(shares, default=0.0)
    if worst <= CALM:
        return None
    return (
        f"Other programs used up to {worst:.0%} of the processors: "
        "measure again on a quiet machine."
    )


def _titles(table: Table[Any], subjects: Mapping[str, str]) -> dict[str, str]:
    """Label → title for people, with the subject's name written out."""
    titles = {}
    for row in table.rows:
        entry = row.entry
        titles[entry.label] = entry.label.replace(entry.subject, subjects[entry.subject], 1)
    return titles


def _measured(rows: Sequence[Row[Any]], number: str) -> bool:
    return any(getattr(row.median or Measurement(), number) is not None for row in rows)


def _times(ratio: float) -> str:
    digits = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return f"x{ratio:.{digits}f}"


def _caption(table: Table[Any], titles: dict[str, str]) -> str | None:
    """What the ratios refer to; said once if it is the same for all rows."""
    pairs = {
        titles[row.entry.label]: titles[row.entry.against or ""] for row in table.rows if row.ratio
    }
    others = set(pairs.values())
    if len(others) < 2:
        return f"x: times {others.pop()}" if others else None
    return "x: " + "; ".join(f"{title} against {other}" for title, other in pairs.items())


def _cells(row: Row[Any], columns: Sequence[Column], *, compared: bool) -> Iterator[str]:
    for number, _, pattern, divisor in columns:
        value = getattr(row.median, number)
        yield "" if value is None else pattern.format(value / divisor)
        if compared and number in COMPARED:
            ratio = getattr(row.ratio, number, None)
            yield "" if ratio is None else _times(ratio)


def _shortcomings(median: Measurement) -> Iterator[str]:
    if median.missing:
        yield f"{median.missing} requests without a reply"
    if median.refused:
        yield f"{median.refused} requests were answered with an error"
    if median.lost:
        yield f"{median.lost} stations lost their connections"


def show(
    console: Console, table: Table[Any], subjects: Mapping[str, str], kind: str = "worker"
) -> None:
    """Print the table of a scenario. `subjects`: name → title; `kind`: what they are."""
    titles = _titles(table, subjects)
    columns = [column for column in COLUMNS if _measured(table.rows, column[0])]
    compared = any(row.ratio for row in table.rows)
    grid = make_grid(table.scenario.title)
    grid.caption = _caption(table, titles)
    grid.add_column(kind, no_wrap=True)
    for number, heading, _, _ in columns:
        grid.add_column(heading, justify="right", no_wrap=True)
        if compared and number in COMPARED:
            grid.add_column("", justify="left", style="dim", no_wrap=True)
    for row in table.rows:
        if row.median:
            grid.add_row(titles[row.entry.label], *_cells(row, columns, compared=compared))
    if grid.row_count:
        console.print(grid)
    for row in table.rows:
        if row.failure:
            console.print(
                f"[red]{titles[row.entry.label]}: {escape(row.failure)}[/red]", highlight=False
            )
        for what in _shortcomings(row.median or Measurement()):
            console.print(f"[red]{titles[row.entry.label]}: {what}[/red]", highlight=False)


def show_targets(console: Console, tables: Sequence[Table[Any]]) -> None:
    """Print what was promised beside what was measured."""
    measured = [target for target in targets(tables) if target.measured is not None]
    if not measured:
        return
    grid = make_grid("Targets")
    for heading in ("", "measured", "must", "aim", ""):
        grid.add_column(heading, justify="left" if not heading else "right")
    colours = {"aim": "green", "must": "yellow", "missed": "red"}
    for target in measured:
        sign = "≥" if target.at_least else "≤"
        bounds = [f"{sign} {bound:.3g}" for bound in (target.must, target.aim)]
        colour = colours[target.verdict]
        grid.add_row(
            target.text, f"{target.measured:.3g}", *bounds, f"[{colour}]{target.verdict}[/{colour}]"
        )
    console.print(grid)
