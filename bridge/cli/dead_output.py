"""What the commands of ``dtbridge dead`` print."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import rich.cells
import rich.console
import rich.table
import rich.text
import typer

from bridge.cli.output import say
from bridge.cli.tables import json_text, print_table, printable, table_width
from bridge.dead_letters.destinations import describe
from bridge.dead_letters.filter import spoken
from bridge.dead_letters.letter import ID_LENGTH, DeadLetter
from bridge.dead_letters.replay import Plan, Replayed
from bridge.request.outcome import Reason

Span = tuple[datetime | None, datetime | None]
"""The first time, and the one before which."""

WIDE: Final = 130
"""Columns from which on a table shows more than what is needed most."""
ONE_LINE: Final = 180
"""Columns from which on the error stands in the same line; what is not a terminal is as wide."""
ID_SHOWN: Final = 8
"""Digits of an id in a narrow table, unless two begin alike."""
DESTINATIONS_SHOWN: Final = 20
"""Lines of a dry run."""


# ---- a list ----


def print_letters(letters: Sequence[DeadLetter]) -> None:
    """A table with a line for each on a wide terminal; on a narrow one, two: the error below."""
    print_table(letters_table(letters, table_width(), datetime.now(UTC)))


def letters_table(
    letters: Sequence[DeadLetter], width: int, now: datetime
) -> rich.console.RenderableType:
    """What is too long is cut at its end; of several texts of a line, the longest ones."""
    wide = width >= WIDE
    digits = ID_LENGTH if wide or _begin_alike(letters) else ID_SHOWN
    columns: list[tuple[str, int | None]] = [("id", None), ("age", None)]
    columns += [("given up (UTC)", None)] if wide else []
    columns += [(name, 7) for name in ("vendor", "message", "station")]
    columns += [("reason", None), ("tries", None)]
    columns += [("replays", None), ("goes back to", 12)] if wide else []
    columns += [("error", width // 4)] if width >= ONE_LINE else []
    rows = [_cells(letter, digits, now, wide=wide)[: len(columns)] for letter in letters]
    widths = _fit(
        [
            max(map(rich.cells.cell_len, (name, *(row[at] for row in rows))))
            for at, (name, _) in enumerate(columns)
        ],
        [least for _, least in columns],
        width - _GAP * (len(columns) - 1),
    )
    table = rich.table.Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for (name, _), room in zip(columns, widths, strict=True):
        right = name in {"tries", "replays"}
        table.add_column(_cell(name), width=room, justify="right" if right else "left")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table if width >= ONE_LINE else _with_errors(table, letters, width, widths[0] + _GAP)


def _with_errors(
    table: rich.table.Table, letters: Sequence[DeadLetter], width: int, indent: int
) -> rich.console.Group:
    """The lines of a table, with the error of each letter below its own."""
    console = rich.console.Console(width=width)
    header, *rows = [
        _cell("".join(segment.text for segment in line)) for line in console.render_lines(table)
    ]
    header.stylize("bold")
    lines = [header]
    for row, letter in zip(rows, letters, strict=True):
        lines.append(row)
        error = printable(letter.error[:_LINE])
        if error:
            lines.append(_cell(" " * indent + error))
    return rich.console.Group(*lines)


_GAP: Final = 2
"""Columns between two texts."""


def _cells(letter: DeadLetter, digits: int, now: datetime, *, wide: bool) -> list[str]:
    cells = [letter.id[:digits], _age_of(letter, now)]
    cells += [_time_of(letter)] if wide else []
    cells += [letter.vendor, letter.message, letter.station, letter.reason]
    cells.append("" if letter.attempts is None else str(letter.attempts))
    cells += [str(letter.replayed or ""), describe(letter)] if wide else []
    cells.append(letter.error)
    return [printable(cell[:_LINE]) for cell in cells]


def _fit(wanted: list[int], least: list[int | None], room: int) -> list[int]:
    """Widths that fit the room: the widest is cut first, and none below its least. None: never."""
    widths = list(wanted)
    while sum(widths) > room:
        longest = max(
            (
                at
                for at, few in enumerate(least)
                if few is not None and widths[at] > min(few, wanted[at])
            ),
            key=widths.__getitem__,
            default=None,
        )
        if longest is None:
            break
        widths[longest] -= 1
    return widths


def _cell(text: str) -> rich.text.Text:
    """One line, cut where there is no more room. What it says is no markup."""
    return rich.text.Text(text, no_wrap=True, overflow="ellipsis")


_LINE: Final = 1_000
"""Signs of a cell at most: no terminal is wider."""


def _begin_alike(letters: Sequence[DeadLetter]) -> bool:
    ids = {letter.id for letter in letters}
    return len({letter_id[:ID_SHOWN] for letter_id in ids}) < len(ids)


def _time_of(letter: DeadLetter) -> str:
    return letter.failed_at.strftime("%Y-%m-%d %H:%M:%S") if letter.failed_at else ""


def _age_of(letter: DeadLetter, now: datetime) -> str:
    return age((now - letter.failed_at).total_seconds()) if letter.failed_at else ""


_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))


def age(seconds: float) -> str:
    """Seconds as people say it: ``45s``, ``12m``, ``3h``, ``2d``. Clocks apart may make it 0."""
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


# ---- one of them ----


def print_everything(parts: dict[str, Any]) -> None:
    """All that is known of a dead letter, a line for each part."""
    for name, value in parts.items():
        if isinstance(value, dict):
            say(f"{name}:")
            for inner, item in value.items():
                say(f"  {printable(inner)}: {_one_line(item)}")
        else:
            say(f"{name}: {_one_line(value)}")


def _one_line(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
    return printable(text)


# ---- what became of them, and what would ----


VENDORS_NAMED: Final = 20
"""Vendors that are told where one was named that has no dead letters."""

THREADS: Final = (
    "timed out: a handler in a thread (a plain def) may have had its effect all the same, "
    "and then has it twice"
)


def report_plan(found: Plan, span: Span, *, as_json: bool) -> None:
    """What a replay would do. `span`: the times that were asked for."""
    if as_json:
        since, until = span
        told = {"dry_run": True, "replayed": found.replayed} | msgspec.structs.asdict(found)
        say(json_text(told | {"since": since, "until": until}))
        return
    for line in plan_lines(found, span):
        say(line)


def plan_lines(found: Plan, span: Span = (None, None)) -> list[str]:
    """What a replay would do, in words."""
    reasons = ", ".join(f"{count:,} {printable(why)}" for why, count in found.reasons.items())
    told = f" ({reasons})" if reasons else ""
    lines = [f"Would be replayed: {found.replayed:,}{told}{_span(span)}."]
    lines += _destinations(found.destinations)
    if late := found.reasons.get(Reason.TIMED_OUT):
        lines.append(f"{late:,} of them {THREADS}.")
    if found.elsewhere:
        lines.append(
            f"Would stay, because they are not from the bridge's own exchange or queues "
            f"(--exchange allows an exchange): {sum(found.elsewhere.values()):,}."
        )
        lines += _destinations(found.elsewhere)
    if found.impossible:
        lines.append(
            f"Would stay, because they do not say where they came from: {found.impossible:,}."
        )
    if found.expired:
        lines.append(
            "Would stay, because they expired and nobody waits for them "
            f"(--include-expired): {found.expired:,}."
        )
    if found.markers:
        lines.append(f"Would stay, because they are no requests {MARKERS}: {found.markers:,}.")
    return lines


MARKERS: Final = "(dtbridge dead purge --reason marker deletes them)"


def _span(span: Span) -> str:
    since, until = span
    told = f", given up from {spoken(since)} on" if since else ""
    if until:
        told += f"{' and' if since else ', given up'} before {spoken(until)}"
    return told


def no_letters_of(vendor: str, counts: Mapping[str, int]) -> str:
    """A sentence that a vendor has no dead letters, and which have; empty if it has some."""
    if any(name.lower() == vendor.lower() for name in counts):
        return ""
    others = sorted(filter(None, counts), key=lambda name: (-counts[name], name))
    shown = ", ".join(f"{printable(name)} ({counts[name]:,})" for name in others[:VENDORS_NAMED])
    more = f" and {len(others) - VENDORS_NAMED:,} more" if len(others) > VENDORS_NAMED else ""
    have = f"; there are some of {shown}{more}" if others else ", nor of any other"
    return f"there are no dead letters of the vendor {vendor!r}{have}"


def _destinations(counts: dict[str, int]) -> list[str]:
    """The most frequent ones."""
    by_count = sorted(counts, key=lambda name: (-counts[name], name))
    lines = [
        f"  {counts[name]:,} to {printable(name) or 'others'}"
        for name in by_count[:DESTINATIONS_SHOWN]
    ]
    rest = by_count[DESTINATIONS_SHOWN:]
    if rest:
        lines.append(f"  {sum(counts[name] for name in rest):,} to {len(rest):,} others")
    return lines


def report_replayed(result: Replayed, *, as_json: bool) -> None:
    """What was replayed, and what was left alone because it expired."""
    if as_json:
        say(msgspec.json.encode(result).decode())
        return
    again = " What fails again: dtbridge dead list --replayed" if result.replayed else ""
    say(f"Replayed: {result.replayed:,}.{again}")
    if result.timed_out:
        typer.echo(f"dtbridge: {result.timed_out:,} of them had {THREADS}", err=True)
    if result.markers:
        typer.echo(
            f"dtbridge: {result.markers:,} that are no requests stay {MARKERS}",
            err=True,
        )
    if result.expired:
        typer.echo(
            f"dtbridge: {result.expired:,} that expired stay, because nobody waits for them "
            "(--include-expired)",
            err=True,
        )


def why_left(result: Replayed) -> str:
    """The sentence about those that could not be replayed."""
    whys = {
        "no queue takes them": result.unroutable,
        "refused by the broker": result.refused,
        "without a place to go back to": result.impossible,
        "not from the bridge's own exchange or queues (--dry-run shows from where)": (
            result.elsewhere
        ),
    }
    return f"{result.left:,} could not be replayed and stay: " + ", ".join(
        f"{count:,} {why}" for why, count in whys.items() if count
    )


def report_count(count: int, what: str, *, as_json: bool) -> None:
    """How many a purge would delete."""
    if as_json:
        say(msgspec.json.encode({"dry_run": True, what: count}).decode())
    else:
        say(f"Would be {what}: {count:,}.")
