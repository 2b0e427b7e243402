"""What ``dtbridge top`` shows: vendors, what stands out, and the processes of the fleet."""

from collections.abc import Sequence
from typing import Final

import rich.console
import rich.table
import rich.text

from bridge.cli.tables import printable
from bridge.top.view import VendorRow, View, WorkerRow
from bridge.top.words import duration, number

WIDE: Final = 120
"""Columns from which on more is shown of each vendor and process."""
NOTES: Final = 5
"""Vendors of which it is said what stands out."""
PROCESS_NOTES: Final = 3
"""Processes of which it is."""
FEWEST: Final = 3
"""Lines of a table at least, however low the terminal is."""
_NOT_KNOWN: Final = "-"
_COMPILED: Final = ("", "yes", "true")


def screen(view: View, width: int, height: int | None) -> rich.console.Group:
    """All of it. `height`: lines of the terminal; None: as many as it takes."""
    workers = list(view.workers)
    notes = _notes(view)
    shown_workers, shown_vendors = _fit(len(workers), len(view.vendors), len(notes), height)
    parts: list[rich.console.RenderableType] = [
        _line(_headline(view), "bold"),
        rich.text.Text(),
        _vendor_table(view.vendors[:shown_vendors], width),
    ]
    parts += _rest(len(view.vendors) - shown_vendors, "vendors")
    if notes:
        parts.append(rich.text.Text())
        parts += notes
    if workers:
        parts += [rich.text.Text(), _worker_table(workers[:shown_workers], width)]
        parts += _rest(len(workers) - shown_workers, "processes")
    if view.broker_error:
        parts += [rich.text.Text(), _line(f"broker: {view.broker_error}", "dim")]
    return rich.console.Group(*parts)


def _notes(view: View) -> list[rich.text.Text]:
    """What stands out, a line each: of processes, of vendors, and then what did before."""
    now = [f"{row.name}: {row.why}" for row in view.workers if row.why][:PROCESS_NOTES]
    now += [f"{row.vendor}: {row.why}" for row in view.vendors if row.why][:NOTES]
    before = [f"{row.vendor}: {row.earlier}" for row in view.vendors if row.earlier]
    lines = [_line(note, "yellow") for note in now]
    return lines + [_line(note, "dim") for note in before[: max(0, NOTES - len(now))]]


def _fit(workers: int, vendors: int, notes: int, height: int | None) -> tuple[int, int]:
    """How many processes and vendors there is room for. Silent processes are not hidden first."""
    if height is None:
        return workers, vendors
    room = max(2 * FEWEST, height - notes - 11)
    of_workers = min(workers, max(FEWEST, room // 3, room - vendors))
    return of_workers, min(vendors, max(FEWEST, room - of_workers))


def _rest(count: int, what: str) -> list[rich.console.RenderableType]:
    return [_line(f"… and {count:,} {what} more (--json has all)", "dim")] if count > 0 else []


def _headline(view: View) -> str:
    silent = sum(bool(row.error) for row in view.workers)
    answering = len(view.workers) - silent
    processes = "1 process" if answering == 1 else f"{answering} processes"
    told = [processes + (f" ({silent} silent)" if silent else "")]
    rates = [row.rate for row in view.vendors if row.rate is not None]
    if rates:
        told.append(f"{number(sum(rates))} requests/s")
    if view.dead_letters is not None:
        told.append(f"{view.dead_letters:,} dead letters in the queue")
    if view.unknown_vendor:
        told.append(f"{view.unknown_vendor:,} to unknown vendors wait")
    told.append(f"over {view.seconds:.1f} s" if view.seconds else "first reading: no rates yet")
    return "   ".join(told)


def _vendor_table(rows: Sequence[VendorRow], width: int) -> rich.table.Table:
    """Durations are from a delivery to its answer; a wide table has the handlers' as well."""
    wide = width >= WIDE
    table = _table("vendor")
    for name in ("req/s", "fail/s", "p50", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        for name in ("handler p50", "p99", "lag p99", "running", "of"):
            table.add_column(name, justify="right", no_wrap=True)
    for name in ("hand", "wait", "backlog", "oldest", "dead\nso far"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            _number(row.rate),
            _number(row.failures),
            _duration(row.answer_p50),
            _duration(row.answer_p99),
        ]
        if wide:
            cells += [
                _duration(row.handler_p50),
                _duration(row.handler_p99),
                _duration(row.lag_p99),
                number(row.running),
                number(row.concurrency),
            ]
        cells += [
            number(row.in_hand),
            number(row.waiting),
            _number(row.backlog),
            _duration(row.oldest),
            number(row.dead),
        ]
        table.add_row(_cell(row.vendor), *cells, style="yellow" if row.why else None)
    return table


def _worker_table(rows: Sequence[WorkerRow], width: int) -> rich.table.Table:
    wide = width >= WIDE
    table = _table("process")
    table.add_column("state", no_wrap=True)
    for name in ("up", "req/s", "cpu", "memory", "loop p99"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("lost", justify="right", no_wrap=True)
    if wide:
        table.add_column("confirm p99", justify="right", no_wrap=True)
        table.add_column("hand", justify="right", no_wrap=True)
        table.add_column("blocked", justify="right", no_wrap=True)
        table.add_column("stations", justify="right", no_wrap=True)
        table.add_column("version", no_wrap=True)
    for row in rows:
        if row.error:
            table.add_row(_cell(row.name), _cell(row.error), style="red")
            continue
        cells = [
            _duration(row.up),
            _number(row.rate),
            _NOT_KNOWN if row.processor is None else f"{row.processor:.0%}",
            _NOT_KNOWN if row.memory is None else f"{row.memory / 2**20:.0f}M",
            _duration(row.loop_lag_p99),
            number(row.sessions_lost),
        ]
        if wide:
            plain = "" if row.compiled in _COMPILED else f" compiled: {row.compiled}"
            cells += [
                _duration(row.confirm_p99),
                number(row.in_hand),
                duration(row.blocked) if row.blocked else "0",
                _NOT_KNOWN if row.stations is None else number(row.stations),
                printable(f"{row.version}{plain}"),
            ]
        state = row.state or row.kind
        table.add_row(
            _cell(row.name),
            _cell(state),
            *cells,
            style=None if row.state in {"", "consuming"} else "yellow",
        )
    return table


def _table(first: str) -> rich.table.Table:
    table = rich.table.Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, min_width=8)
    return table


def _cell(text: str) -> rich.text.Text:
    return rich.text.Text(printable(text[:500]), no_wrap=True, overflow="ellipsis")


def _line(text: str, style: str) -> rich.text.Text:
    return rich.text.Text(printable(text[:500]), style=style, no_wrap=True, overflow="ellipsis")


def _number(value: float | None) -> str:
    return _NOT_KNOWN if value is None else number(value)


def _duration(value: float | None) -> str:
    return _NOT_KNOWN if value is None else duration(value)
