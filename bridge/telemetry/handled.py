"""The request that is handled just now, for whatever is logged meanwhile.

One context variable holds it, in the context of its handler alone. It is read only when a line is
written: a message costs the setting of a variable, and nothing more.
"""

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Protocol

LONGEST: Final = 256
"""Characters of a value that a line gets from a request."""


class Handled(Protocol):
    """What lines are told of a request."""

    @property
    def station_id(self) -> str: ...

    @property
    def vendor_id(self) -> str: ...

    @property
    def message_id(self) -> str | None: ...

    @property
    def correlation_id(self) -> str | None: ...

    @property
    def traceparent(self) -> str | None: ...


HANDLED: Final[ContextVar[Handled | None]] = ContextVar("dtbridge_handled", default=None)
"""Set by whoever calls a handler, in the context that the handler gets."""

trace_sources: Final[list[Callable[[], str | None]]] = []
"""Who may know the trace that goes on just now: a tracer, once there is one."""


def facts() -> dict[str, str]:
    """What a line says of the request that is handled in this context; empty if there is none."""
    handled = HANDLED.get()
    trace_id = None
    for source in trace_sources:
        trace_id = trace_id or source()
    if handled is None:
        return {} if trace_id is None else {"trace_id": trace_id}
    if trace_id is None and (parent := handled.traceparent) is not None:
        trace_id = parent[3:35]
    told = {
        "station": handled.station_id,
        "vendor": handled.vendor_id,
        "message": handled.message_id,
        "correlation_id": handled.correlation_id,
        "trace_id": trace_id,
    }
    return {key: _encodable(value[:LONGEST]) for key, value in told.items() if value}


def _encodable(text: str) -> str:
    """Without half surrogate pairs, with which no file and no tracker takes it."""
    return text.encode("utf-8", "replace").decode()


_TRACE_PARENT: Final = re.compile(
    "(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_MORE: Final = 512
"""Characters of a traceparent of a later version, which may be longer than that of version 00."""


def valid_traceparent(value: object) -> str | None:
    """The value of a header ``traceparent``, if it is one (W3C Trace Context §3.2)."""
    if type(value) is not str or len(value) > _MORE:
        return None
    found = _TRACE_PARENT.match(value)
    if found is None:
        return None
    rest = value[found.end() :]
    return value if not rest or (rest[0] == "-" and value[:2] != "00") else None
