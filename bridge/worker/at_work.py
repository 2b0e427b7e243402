"""Finds the handler that is at work in a stack, and its request. It costs the handlers nothing."""

from collections.abc import Sequence
from types import FrameType

from bridge.ocpp.errors import encodable
from bridge.request.incoming import Call
from bridge.routing.handler import Handler
from bridge.routing.router import Routes
from bridge.telemetry.blocked import OTHER, Holder
from bridge.worker import ledger


class AtWork:
    """Knows the handlers of a worker."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._labels = ledger.labels(routes.routers, routes.binding.bound)
        self._names = {handler.name: labels for handler, labels in self._labels.items()}

    def __call__(self, stack: Sequence[FrameType]) -> Holder | None:
        """The handler at work in a stack, from the outermost frame; None: no handler stands there.

        What a handler has started as a task of its own is not known for the handler's.
        """
        calls = ((at, call) for at, frame in enumerate(stack) if (call := _call_in(frame)))
        begins_at, call = next(calls, (0, None))
        if call is not None:
            found = self._routes.resolve(call.vendor_id, call.message_id)
            if isinstance(found, Handler):
                return Holder(
                    found.name,
                    call,
                    {
                        "vendor": encodable(call.vendor_id),
                        "message": encodable(call.message_id or ""),
                        "station": encodable(call.station_id),
                    },
                    self._labels.get(found, OTHER),
                    _past_the_bridge(stack, begins_at),
                )
        # One that is given no call: the method of a handler that is mounted.
        for at, frame in enumerate(stack):
            name = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"
            labels = self._names.get(name)
            if labels is not None:
                return Holder(name, frame, {}, labels, at)
        return None


def _past_the_bridge(stack: Sequence[FrameType], at: int) -> int:
    """The first frame from `at` on that is not the bridge's own, if there is one."""
    for number in range(at, len(stack)):
        if not str(stack[number].f_globals.get("__name__", "")).startswith("bridge."):
            return number
    return at


def _call_in(frame: FrameType) -> Call | None:
    """What a frame works at, if it has been given a request: the first argument of a handler."""
    for value in tuple(frame.f_locals.values()):
        if type(value) is Call:  # not isinstance, which asks the values of vendors for their class
            return value
    return None
