"""Events as lines on a terminal, whoever wrote what is in them."""

import textwrap
from typing import Final

from bridge.telemetry.events import AS_DESIGNED, Event, answer_body, request_body
from bridge.telemetry.lines import escaped
from bridge.telemetry.outcomes import KINDS

NARROW: Final = 80
"""Columns that a line fits into, where a terminal has no more."""
_CLOCK: Final = slice(11, 23)
"""Of an RFC 3339 time, hours to milliseconds."""
_INDENT: Final = 13
"""Columns of the clock, under which a second line has nothing."""
_FIXED: Final = 12 + 1 + 17 + 1 + 1 + 1 + 9
"""Columns of the clock, the outcome and the time it took, with the spaces around them."""
_STATION_AT_LEAST: Final = 12
_WAITED: Final = 0.1
"""Seconds of waiting from which on it is told."""

_AS_DESIGNED: Final = frozenset(KINDS[counted] for counted in AS_DESIGNED)


def lines(event: Event, width: int) -> list[str]:
    """What a person wants to know of an event, in lines of `width` columns: one, or more if
    something is unusual.
    """
    width = max(NARROW, width)
    place = max(_STATION_AT_LEAST, (width - _FIXED) // 3)
    what = " ".join(filter(None, (event.vendor or "?", event.message)))
    rest = width - _FIXED - place
    first = (
        f"{_shown(event.time[_CLOCK], 12):<12} {_shown(event.outcome, 17):<17} "
        f"{_shown(event.station or '?', place):<{place}} {_shown(what, rest):<{rest}} "
        f"{_duration(event.answer_s):>9}"
    )
    more = ", ".join(_unusual(event))
    if not more:
        return [first]
    return [
        first,
        *textwrap.wrap(
            more,
            width,
            initial_indent=" " * _INDENT,
            subsequent_indent=" " * _INDENT,
            break_on_hyphens=False,
        ),
    ]


def bodies(event: Event) -> list[str]:
    """The payloads of an event that has them, a line each."""
    shown = []
    for name, body, size in (
        ("request", request_body(event), event.request_size),
        ("answer", answer_body(event), event.answer_size),
    ):
        if body is not None:
            shown.append(f"{'':{_INDENT}}{name}: {one_line(body.decode('utf-8', 'replace'))}")
        elif size is not None:
            shown.append(f"{'':{_INDENT}}{name}: {size:,} bytes, too large for an event")
    return shown


def one_line(text: str) -> str:
    """Text with everything escaped that a terminal might obey, line breaks and tabs included."""
    return escaped(text).replace("\n", r"\n").replace("\t", r"\t")


def _unusual(event: Event) -> list[str]:
    facts = []
    if event.outcome not in _AS_DESIGNED:
        facts = [event.error, event.code, event.reason]
    elif event.code:
        facts = [event.code]
    if event.attempt != 1:
        facts.append(f"attempt {event.attempt}")
    if event.redelivered:
        facts.append("redelivered")
    if event.waiting_s is not None and event.waiting_s >= _WAITED:
        facts.append(f"waited {_duration(event.waiting_s)}")
    told = [one_line(fact) for fact in facts if fact]
    if told and event.ocpp_message_id:
        told.append(f"{one_line(event.ocpp_version)} id {one_line(event.ocpp_message_id)}")
    return told


def _shown(text: str, width: int) -> str:
    text = one_line(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:,.1f} ms" if seconds < 10 else f"{seconds:,.1f} s"
