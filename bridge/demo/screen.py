"""What the demo shows: a growing table above a progress bar, or plain lines without a terminal."""

import statistics
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from msgspec import UNSET, Raw, UnsetType
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from bridge.demo.corpus import Command, Message
from bridge.demo.verdict import Outcome

PLAIN_LENGTH = 60
"""Characters of the data, and of the answer, in a plain line."""

STATION_FROM = 120
"""Columns that a terminal must have to show the station's name."""


class Result(msgspec.Struct, frozen=True):
    """One request in either direction, its answer, and the time between the two."""

    asked: Message | Command
    ocpp_version: str
    payload: bytes
    """As it was sent, even if broken."""
    outcome: Outcome
    seconds: float


class Phase(msgspec.Struct, frozen=True):
    """A part of the demo."""

    title: str
    results: list[Result]
    seconds: float
    is_burst: bool = False
    """Whether many stations ask at a time: then the rate is shown."""


class _Payload(msgspec.Struct, rename="camel"):
    vendor_id: Any = None
    message_id: Any = None
    data: Raw | UnsetType = UNSET


class _Cells(msgspec.Struct, frozen=True):
    """A result as text, before it is cut to length."""

    station: str
    vendor: str
    message: str
    version: str
    data: str
    answer: str
    milliseconds: str


def _cells(result: Result) -> _Cells:
    try:
        payload = msgspec.json.decode(result.payload, type=_Payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        vendor, message, data = "", "", result.payload
    else:
        vendor, message = (str(value or "") for value in (payload.vendor_id, payload.message_id))
        data = b"" if payload.data is UNSET else bytes(payload.data)
    if isinstance(result.asked, Message) and result.asked.action != "DataTransfer":
        vendor, message, data = "", result.asked.action, result.payload
    outcome = result.outcome
    kind = f"CALLERROR {outcome.kind}" if outcome.is_error else outcome.kind
    return _Cells(
        result.asked.station_id,
        vendor,
        message,
        result.ocpp_version.removeprefix("ocpp"),
        data.decode(errors="replace"),
        f"{kind} {outcome.detail}".rstrip(),
        f"{result.seconds * 1000:.1f}",
    )


class Screen:
    """The demo's output. It is a context manager: leaving it ends the progress bar."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print one line of text as it is."""
        self._console.print(Text(line), soft_wrap=True)

    def heading(self, text: str) -> None:
        """Announce the next phase."""
        if self._console.is_terminal:
            self._console.print()
            self._console.print(Rule(Text(text, style="bold"), align="left", style="dim"))
        else:
            self.say(f"# {text}")

    def begin(self, title: str, total: int) -> None:
        """Start the progress bar of a phase that has `total` requests."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(title, total=total)

    def advance(self) -> None:
        """Count one answered request of this phase."""
        if self._task is not None:
            self._progress.advance(self._task)

    def head(self) -> None:
        """Print the names of the columns, on a terminal."""
        if self._console.is_terminal:
            names = ("station", "vendor", "message", "OCPP", "data", "answer", "ms")
            self._print([Text(name, style="bold") for name in names])

    def row(self, result: Result) -> None:
        """Print one request and its answer."""
        cells = _cells(result)
        if not self._console.is_terminal:
            self.say(_plain(cells, fits=result.outcome.fits))
            return
        mark = "" if result.outcome.fits else "✗ "
        answer = Text(mark + cells.answer, style=_style(result.outcome))
        vendor = Text(_cut_front(cells.vendor, _widths(self._console.width)[1]))
        others = map(Text, (cells.message, cells.version, cells.data))
        self._print(
            [
                Text(cells.station, style="dim"),
                vendor,
                *others,
                answer,
                Text(cells.milliseconds, style="dim"),
            ]
        )

    def _print(self, cells: Sequence[Text]) -> None:
        """Print a line of the table, without the columns for which there is no room."""
        widths = _widths(self._console.width)
        shown = [(cell, width) for cell, width in zip(cells, widths, strict=True) if width]
        self._console.print(_row([cell for cell, _ in shown], [width for _, width in shown]))

    def summary(self, phases: Sequence[Phase]) -> None:
        """Print how many requests there were, how they were answered, and how fast."""
        self._progress.stop()
        outcomes = [result.outcome for phase in phases for result in phase.results]
        facts = [("requests", f"{len(outcomes):,}")]
        facts += [
            (f"  {kind}", f"{count:,}")
            for kind, count in Counter(map(_kind, outcomes)).most_common()
        ]
        for phase in filter(lambda phase: phase.results, phases):
            rate = (
                f", {len(phase.results) / phase.seconds:,.0f} requests/s" if phase.is_burst else ""
            )
            facts.append((phase.title, _percentiles(phase.results) + rate))
        self.say("")
        for name, value in facts:
            self.say(f"{name:<41} {value}")
        self.say("")


def _style(outcome: Outcome) -> str:
    if not outcome.fits:
        return "bold red"
    if outcome.is_error:
        return "yellow"
    return "green" if outcome.kind == "Accepted" else "cyan"


def _kind(outcome: Outcome) -> str:
    return f"CALLERROR {outcome.kind}" if outcome.is_error else outcome.kind


def _row(cells: Sequence[Text], widths: Sequence[int]) -> Table:
    """One line of the table. Lines align because their widths do not depend on the cells."""
    table = Table.grid(padding=(0, 1))
    for width in widths:
        table.add_column(width=width, no_wrap=True)
    table.columns[-1].justify = "right"
    table.add_row(*cells)
    return table


def _widths(total: int) -> tuple[int, ...]:
    """The widths of the table's columns in a terminal with `total` columns; 0: no room for it."""
    version, milliseconds, gaps = 5, 6, 5
    station = 13 if total >= STATION_FROM else 0
    free = max(total - version - milliseconds - gaps - (station and station + 1), 4)
    vendor = message = free // 5
    data = free // 4
    return station, vendor, message, version, data, free - vendor - message - data, milliseconds


def _plain(cells: _Cells, *, fits: bool) -> str:
    parts = (
        cells.station,
        _cut_front(cells.vendor, 36) or "-",
        _cut(cells.message, 32) or "-",
        cells.version,
        _cut(cells.data, PLAIN_LENGTH) or "-",
        "->",
        _cut(cells.answer, PLAIN_LENGTH),
        f"{cells.milliseconds} ms",
        "" if fits else "NOT THE EXPECTED ANSWER",
    )
    return "  ".join(filter(None, parts))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _cut_front(text: str, length: int) -> str:
    """Cut off the front, which says least in a name like org.openchargealliance.iso15118pnc."""
    return text if len(text) <= length else "…" + text[len(text) - length + 1 :]


def _percentiles(results: Sequence[Result]) -> str:
    times = [result.seconds * 1000 for result in results]
    if len(times) < 2:  # statistics.quantiles needs two
        return f"{times[0]:.1f} ms" if times else "none"
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    return f"p50 {cuts[9]:.1f} ms, p95 {cuts[18]:.1f} ms"
