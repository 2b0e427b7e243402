"""``dtbridge replay-check``: recorded requests put to handlers again, and the answers compared."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from bridge.cli.event_lines import one_line
from bridge.cli.exits import EXIT_FAILED, EXIT_USAGE, fail
from bridge.cli.options import NONE_GIVEN
from bridge.cli.output import say
from bridge.cli.process import complete
from bridge.cli.routers import routers_or_fail
from bridge.request.outcome import Failure
from bridge.routing.errors import LifespanError
from bridge.routing.router import Router, fold
from bridge.telemetry.events import Event, answer_body, read_event, read_members
from bridge.telemetry.logs import LogFormat, LogLevel, configuring
from bridge.telemetry.outcomes import KINDS, Counted
from bridge.testing.replay import Difference, Replayer, Result, compare, parse_path

LINE_AT_MOST: Final = 4 * 1024 * 1024
"""Bytes of a line that are read. An event has two payloads of 64 KiB, each byte of which may take
six in JSON."""
SHOWN_OF_A_REQUEST: Final = 10
"""Differences of one request that are shown."""
VENDORS_AT_MOST: Final = 1_000
VENDORS_NAMED: Final = 20
"""Vendors that are noted, and named, where none was of the vendor that was asked for."""
VALUE_SHOWN: Final = 200
"""Characters of a value that are shown."""

_HANDLED: Final = frozenset(
    KINDS[counted]
    for counted in (
        Counted.ACCEPTED,
        Counted.REJECTED,
        Counted.UNKNOWN_VENDOR,
        Counted.UNKNOWN_MESSAGE,
        Counted.CALL_ERROR,
        Counted.FAILED,
        Counted.TIMED_OUT,
        Counted.RETRIES_EXHAUSTED,
    )
)
"""Outcomes with an answer that the handlers of today would give as well, or another one. The rest
was not begun, had the answer of another delivery, or had none."""


def replay_check(
    target: Annotated[
        str,
        typer.Argument(
            envvar="DTBRIDGE_REPLAY_TARGET",
            metavar="MODULE:NAME",
            help="Where the routers are; NAME is a Router or a list of them.",
        ),
    ],
    file: Annotated[
        Path,
        typer.Argument(
            envvar="DTBRIDGE_REPLAY_FILE",
            metavar="FILE.jsonl",
            help="Events with bodies, as dtbridge tap --save writes them.",
        ),
    ],
    ignore: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_REPLAY_IGNORE",
            metavar="PATH",
            help="A place in answers that may differ, such as data.time or data.items.*.id.",
        ),
    ] = NONE_GIVEN,
    vendor: Annotated[
        list[str],
        typer.Option(envvar="DTBRIDGE_REPLAY_VENDOR", help="Only requests of this vendorId."),
    ] = NONE_GIVEN,
    strict: Annotated[
        bool,
        typer.Option("--strict", envvar="DTBRIDGE_STRICT", help="As the workers were run."),
    ] = False,
    stop_at: Annotated[
        int | None,
        typer.Option(
            envvar="DTBRIDGE_REPLAY_STOP_AT",
            min=1,
            help="End after so many requests whose answers differ.",
        ),
    ] = None,
) -> None:
    """Put recorded requests to handlers, without a broker, and print where the answers differ.

    The handlers have their effects: run them where that does no harm. Exit code 0: all answers are
    the same, 1: some differ, 2: there is nothing to compare.
    """
    with configuring(LogFormat.AUTO, LogLevel.WARNING):
        routers = routers_or_fail([target])
    try:
        ignored = [parse_path(text) for text in ignore]
    except ValueError as error:
        fail(f"--ignore: {error}", EXIT_USAGE)
    check = _Check(ignored, {fold(each) for each in vendor}, stop_at)
    try:
        with file.open("rb") as lines:
            complete(check.run(routers, lines, strict=strict))
    except LifespanError as error:
        fail(str(error), EXIT_USAGE, error=error.__cause__)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", EXIT_USAGE)
    say(check.summary)
    if not check.compared and check.others:
        seen = ", ".join(map(repr, sorted(check.others)[:VENDORS_NAMED]))
        more = len(check.others) - VENDORS_NAMED
        seen += f" and {more:,} more" if more > 0 else ""
        fail(
            f"no event in {file} is of the vendor {', '.join(vendor)}: there are {seen}", EXIT_USAGE
        )
    if not check.compared:
        fail(
            f"nothing in {file} can be compared: record it with dtbridge tap --save, from workers "
            "that run with --events all --event-bodies",
            EXIT_USAGE,
        )
    if check.different:
        raise typer.Exit(EXIT_FAILED)


class _Check:
    """One run of the command, and its counts."""

    def __init__(
        self, ignored: Sequence[tuple[str, ...]], vendors: set[str], stop_at: int | None
    ) -> None:
        self._ignored = ignored
        self._vendors = vendors
        self._stop_at = stop_at
        self.compared = 0
        self.different = 0
        self._without = 0
        self._not_handled = 0
        self._broken = 0
        self._again = 0
        self._others = 0
        self.others: set[str] = set()
        """Vendors whose events are left out: the first :data:`VENDORS_AT_MOST`."""

    async def run(self, routers: Sequence[Router], lines: BinaryIO, *, strict: bool) -> None:
        """Put the requests to the handlers, one after the other."""
        replayer = Replayer(routers, strict=strict)
        try:
            await replayer.start()
            for number, line in _numbered(lines):
                try:
                    await self._look_at(replayer, number, _event(line))
                except ValueError as error:
                    self._broken += 1
                    if self._broken == 1:
                        say(f"line {number} is left out: {_cut(str(error))}")
                if self.different == self._stop_at:
                    break
        finally:
            await replayer.close()

    async def _look_at(self, replayer: Replayer, number: int, event: Event) -> None:
        if self._vendors and fold(event.vendor) not in self._vendors:
            self._others += 1
            if len(self.others) < VENDORS_AT_MOST:
                self.others.add(event.vendor)
            return
        # Without a station, the message around the payload was at fault, and that is not recorded.
        if event.outcome not in _HANDLED or not event.station:
            self._not_handled += 1
            return
        then = answer_body(event)
        if then is None or (event.request is None and event.request_base64 is None):
            self._without += 1
            return
        result = await replayer.handle(event)
        differences = compare(then, result, self._ignored)
        self.compared += 1
        self.different += bool(differences)
        again = bool(result.raised) and isinstance(result.outcome, Failure)
        self._again += again and not differences
        if differences or again:
            _print(number, event, result, differences)

    @property
    def summary(self) -> str:
        """All counts in one sentence."""
        parts = [
            f"{self.compared:,} compared",
            f"{self.compared - self.different:,} the same"
            + (f" ({self._again:,} fail again)" if self._again else ""),
            f"{self.different:,} different",
        ]
        parts += [
            f"{count:,} {what}"
            for count, what in (
                (self._without, "without bodies"),
                (self._not_handled, "not handled then, or not answered"),
                (self._others, "of other vendors"),
                (self._broken, "broken lines"),
            )
            if count
        ]
        return ", ".join(parts) + "."


def _numbered(lines: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their numbers, from 1; None in place of one that is too long.

    Empty ones are left out.
    """
    number = 0
    while line := lines.readline(LINE_AT_MOST):
        number += 1
        too_long = not line.endswith(b"\n") and len(line) == LINE_AT_MOST
        while not line.endswith(b"\n") and (rest := lines.readline(LINE_AT_MOST)):
            line = rest
        if too_long:
            yield number, None
        elif line.strip():
            yield number, line


def _event(line: bytes | None) -> Event:
    """Raises ValueError for a line that is none."""
    if line is None:
        raise ValueError("it is longer than any event")
    return read_event(read_members(line))


def _print(number: int, event: Event, result: Result, differences: Sequence[Difference]) -> None:
    what = " ".join(filter(None, (event.vendor or "?", event.message)))
    again = "" if differences else ": the same answer, and it fails again"
    told = f"{event.ocpp_version}, id {event.ocpp_message_id or '-'}, {event.time}"
    say(one_line(f"line {number}: {what} from {event.station} ({told}){again}"))
    for each in differences[:SHOWN_OF_A_REQUEST]:
        say(f"    {_cut(each.path)}: {_cut(each.then)} → {_cut(each.now)}")
    if len(differences) > SHOWN_OF_A_REQUEST:
        say(f"    and {len(differences) - SHOWN_OF_A_REQUEST:,} more")
    if result.raised:
        say(f"    raised {one_line(result.raised)}")
    elif isinstance(result.outcome, Failure):
        say(f"    failed: {_cut(result.outcome.error)}")


def _cut(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= VALUE_SHOWN else f"{text[: VALUE_SHOWN - 1]}…"
