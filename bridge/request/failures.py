"""What the log says of requests that failed, or are tried again.

An exception of a handler makes one record, of level error, with its traceback from the handler on.
A cause that strikes again and again is told in short after a while, and then counted alone
(:class:`~bridge.telemetry.storms.Storms`). None of it goes to a station.
"""

import asyncio
import datetime as dt
import time
from collections.abc import Hashable
from functools import cached_property
from typing import Any, Final

from bridge.ocpp import CallError, decode_request
from bridge.ocpp.errors import encodable
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Raised, RetryLater
from bridge.telemetry.exceptions import definition, place, qualified_name
from bridge.telemetry.handled import HANDLED, valid_traceparent
from bridge.telemetry.logs import EventLogger, LogLevel
from bridge.telemetry.storms import FULL, WINDOW, Storms, Telling
from bridge.telemetry.trackers import tell_sentry

FAILED: Final = "request dead-lettered"
AGAIN: Final = "request will be tried again"


class Failures:
    """Tells of the failures of one queue's requests."""

    def __init__(
        self, log: EventLogger, storms: Storms | None = None, *, event: str = FAILED, **always: Any
    ) -> None:
        """`event`: of a failure. `always`: pairs of every line."""
        self._log = log
        self._storms = Storms() if storms is None else storms
        self._event = event
        self._always = always
        self._timer: asyncio.TimerHandle | None = None

    def failed(self, request: Request, failure: Failure) -> None:
        """Tell of a request that was given up."""
        raised = failure.raised
        cause = (failure.reason.value, *_cause(raised))
        pairs = {"reason": failure.reason.value, "error": failure.error}
        if raised is None:
            self._tell(LogLevel.WARNING, self._event, cause, request, pairs, None)
        else:
            self._tell(LogLevel.ERROR, self._event, cause, request, pairs, raised)

    def tried_again(self, request: Request, outcome: RetryLater) -> None:
        """Tell of a request that waits for its next try. Tracebacks are for the level debug."""
        next_try = dt.datetime.fromtimestamp(time.time() + outcome.after, dt.UTC)
        pairs = {
            "reason": outcome.error,
            "after_s": outcome.after,
            "next_try": next_try.isoformat(timespec="milliseconds"),
        }
        shown = self._log.is_enabled_for(LogLevel.DEBUG)
        self._tell(
            LogLevel.INFO,
            AGAIN,
            ("again", *_cause(outcome.raised)),
            request,
            pairs,
            outcome.raised,
            with_traceback=shown,
        )

    def close(self) -> None:
        """Tell what was not written of the last minute."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell_untold(over=True)

    def _tell(
        self,
        level: LogLevel,
        event: str,
        cause: tuple[str, ...],
        request: Request,
        pairs: dict[str, Any],
        raised: Raised | None,
        *,
        with_traceback: bool = True,
    ) -> None:
        if not self._log.is_enabled_for(level):
            return
        telling, count = self._storms.strike((event, *cause))
        if telling is Telling.NOT_AT_ALL:
            self._tell_later()
            return
        if telling is Telling.SHORT:
            pairs["in_this_minute"] = count
            if raised is not None and with_traceback:
                pairs["traceback"] = f"in the first {FULL} records of this cause in the minute"
        if raised is not None:
            pairs |= {
                "at": raised.at,
                "handler": qualified_name(raised.handler),
                "defined_at": definition(raised.handler),
            }
        pairs |= {
            # Bytes that are not UTF-8 came in as lone surrogates, with which no log can be written.
            "ocpp_message_id": encodable(request.ocpp_message_id or ""),
            "attempt": request.attempt,
            **self._always,
        }
        tell_sentry()
        token = HANDLED.set(Facts(request))
        try:
            if raised is None or telling is Telling.SHORT or not with_traceback:
                getattr(self._log, level.value)(event, **pairs)
            else:
                self._log.raised(level, event, raised.error, **pairs)
        finally:
            HANDLED.reset(token)

    def _tell_later(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(WINDOW, self._minute_is_over)

    def _minute_is_over(self) -> None:
        self._timer = None
        if self._tell_untold():
            self._tell_later()

    def _tell_untold(self, *, over: bool = False) -> bool:
        untold = self._storms.untold(over=over)
        for cause, count in untold:
            self._log.warning("records left out", like=_words(cause), count=count, **self._always)
        return bool(untold)


class Facts:
    """What lines say of a request that no handler of a router has in hand. Read when asked for."""

    def __init__(self, request: Request) -> None:
        self._request = request

    @property
    def station_id(self) -> str:
        return self._request.station_id

    @property
    def vendor_id(self) -> str:
        return self._names[0]

    @property
    def message_id(self) -> str | None:
        return self._names[1]

    @property
    def correlation_id(self) -> str | None:
        return self._request.source.properties.correlation_id

    @property
    def traceparent(self) -> str | None:
        headers = self._request.source.properties.headers or {}
        return valid_traceparent(headers.get("traceparent"))

    @cached_property
    def _names(self) -> tuple[str, str | None]:
        try:
            envelope = decode_request(self._request.body, self._request.version)
        except CallError:
            return "", None
        return envelope.vendor_id, envelope.message


def _cause(raised: Raised | None) -> tuple[str, ...]:
    """What tells the cause of a failure from others: nothing in it comes from a station."""
    if raised is None:
        return ()
    error = raised.error
    return (qualified_name(raised.handler), type(error).__qualname__, place(error))


def _words(cause: Hashable) -> str:
    return " ".join(filter(None, cause)) if isinstance(cause, tuple) else str(cause)
