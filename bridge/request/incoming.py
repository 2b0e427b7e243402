"""A DataTransfer request on its way through the bridge, and what its handler sees of it.

Pure values.
"""

import hashlib
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from bridge.ocpp import DataTransferRequest, OcppVersion, RequestEnvelope
from bridge.request.state import NO_STATE, Held, StateT_co
from bridge.telemetry.handled import HANDLED, valid_traceparent
from bridge.telemetry.measures import Tally
from bridge.transport import Delivery

Other = TypeVar("Other")


class Request(msgspec.Struct, eq=False, gc=False, kw_only=True):
    """What a dialect reads from a delivery: all that handling needs, nothing of the broker."""

    body: bytes
    """The OCPP payload, JSON, as the station sent it."""
    station_id: str
    version: OcppVersion
    ocpp_message_id: str | None
    """The OCPP message id of the CALL; together with the station it names the request."""
    deadline: float | None
    """When nobody waits for the answer any more, in seconds of Unix time; None: not said."""
    attempt: int
    """1 for the first try, one more after each :class:`~bridge.request.outcome.Retry`."""
    redelivered: bool
    """The broker has delivered it before; whether it was handled then is not known."""
    reply_wanted: bool
    fault: str | None = None
    """What is wrong with the message around the payload, as a sentence; it cannot be handled."""
    source: Delivery
    """The delivery that it came with, for whoever settles it."""
    key: Any = None
    """Its key in the idempotency store, from when its handling begins; None: it has none."""
    started: float | None = None
    """When its handling began, in seconds of the monotonic clock; None: not measured."""
    first_try: float | None = None
    """When it was handled first, in seconds of Unix time; None: this is the first try."""
    origin: Any = None
    """What else names it, beside version, station, message id and payload: the connection that it
    came on, or else the message that it is, and who sent it. A hashable value, whose repr says all
    of it."""
    told_apart: bool = False
    """Whether a later request of the station would have another name. If not, one that is named as
    one before is a repetition only if the broker, or the bridge, has sent it again."""
    arrived: float | None = None
    """When its delivery came. This and the next two are for measuring, in seconds of the monotonic
    clock; None: it is not measured, or not yet."""
    begun: float | None = None
    """When its handler was called."""
    ended: float | None = None
    """When its handler had returned, or its answer was at hand after that."""
    tally: Tally | None = None
    """Where its outcome is counted; None: no handler was found for it yet."""
    absorbed: bool = False
    """Whether it is answered with what another delivery of it was answered."""


class Call(
    msgspec.Struct, Generic[StateT_co], frozen=True, eq=False, gc=False, repr_omit_defaults=True
):
    """What a handler is told about the request, beside its data: its first argument.

    Read-only. Times are seconds of Unix time, as :func:`time.time` gives them. ``Call[State]`` says
    the type of :attr:`state` to a type checker; ``Call`` alone takes any.
    """

    _request: Request
    _envelope: RequestEnvelope
    _held: Held[StateT_co] = NO_STATE

    @property
    def state(self) -> StateT_co:
        """The value of the router's lifespan, in this worker; None: the router has none."""
        state: StateT_co = self._held.value
        return state

    def with_state(self, state: Other) -> "Call[Other]":
        """The same call with another state: for a middleware that gives the handler its own."""
        return Call(self._request, self._envelope, Held(state))

    @property
    def station_id(self) -> str:
        """The charging station that sent the request."""
        return self._request.station_id

    @property
    def vendor_id(self) -> str:
        """The vendorId as the station spelled it."""
        return self._envelope.vendor_id

    @property
    def message_id(self) -> str | None:
        """The messageId as the station spelled it; None if it gave none, or an empty one."""
        return self._envelope.message_id or None

    @property
    def ocpp_version(self) -> OcppVersion:
        """The OCPP version of the payload: the station's."""
        return self._request.version

    @property
    def ocpp_message_id(self) -> str | None:
        """The OCPP message id of the CALL; None: the gateway did not say.

        At most 36 characters; unique for each station and connection (OCPP-J 1.6 §4.1.4).
        """
        return self._request.ocpp_message_id

    @property
    def deadline(self) -> float | None:
        """When the station stops waiting, in seconds of Unix time; None: not known."""
        return self._request.deadline

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, never negative; None: no deadline is known."""
        deadline = self._request.deadline
        return None if deadline is None else max(0.0, deadline - time.time())

    @property
    def attempt(self) -> int:
        """Which try this is: 1 at the first."""
        return self._request.attempt

    @property
    def redelivered(self) -> bool:
        """Whether the broker has delivered the request before.

        It may have been handled then, by a worker that died before its reply was safe.
        """
        return self._request.redelivered

    @property
    def idempotency_key(self) -> str | None:
        """Names the request to whatever must not happen twice: 64 hexadecimal digits.

        It is the same whenever the request is delivered or tried again, in every worker; None: the
        request has no OCPP message id. A later request of the station has another key, unless
        :attr:`key_comes_again`.
        """
        request = self._request
        if not request.ocpp_message_id:
            return None
        origin = request.origin
        sender = request.source.properties.user_id
        if sender is not None and isinstance(origin, tuple) and origin[0] is sender:
            origin = origin[1]  # a copy for a later try has lost its sender
        version, station_id = request.version.value, request.station_id
        names = repr((version, station_id, request.ocpp_message_id, origin, len(request.body)))
        # Workers of several releases share a database: this must stay as it is.
        digest = hashlib.sha256(names.encode("utf-8", "surrogatepass"))
        digest.update(request.body)
        return digest.hexdigest()

    @property
    def key_comes_again(self) -> bool:
        """Whether a later request of the station may have the same :attr:`idempotency_key`.

        It may where the gateway names neither connections nor deadlines, because many stations use
        their message ids again. A copy for a later try may not know it any more.
        """
        return not self._request.told_apart

    @property
    def may_be_repetition(self) -> bool:
        """Whether a request of the same :attr:`idempotency_key` that came before may be this one.

        If not, keys come again, and nobody has sent this one again: it is a new request.
        """
        request = self._request
        return request.told_apart or request.redelivered or request.first_try is not None

    @property
    def headers(self) -> Mapping[str, Any]:
        """The AMQP headers of the message, ``traceparent`` for one. Read-only.

        Whoever published the message has set them: they may hold anything.
        """
        return MappingProxyType(self._request.source.properties.headers or {})

    @property
    def correlation_id(self) -> str | None:
        """What names the request between its sender and the bridge; None: it has no such name."""
        return self._request.source.properties.correlation_id

    @property
    def traceparent(self) -> str | None:
        """The header ``traceparent`` (W3C Trace Context); None: there is none, or it is malformed.

        Where the bridge traces, it names the bridge's own span, which is the parent of others.
        """
        return valid_traceparent((self._request.source.properties.headers or {}).get("traceparent"))

    @property
    def user_id(self) -> str | None:
        """The broker's user that published the message, if the message names it; None: not known.

        The broker has checked it. It is not known any more at a later try.
        """
        return self._request.source.properties.user_id

    @property
    def request(self) -> DataTransferRequest:
        """The whole request, its data decoded as plain JSON values. Decoded anew at each access.

        Raises CallError if the data cannot be decoded.
        """
        return self._envelope.to_request()

    def __repr__(self) -> str:
        return (
            f"<Call {self.vendor_id} {self.message_id} from {self.station_id}"
            f" attempt={self.attempt}>"
        )


def current_call() -> Call[Any] | None:
    """The call of the handler that runs in this context; None: none does.

    For what is far from the handler, such as a filter of log records. It is found in the tasks and
    threads that the handler starts as well (:func:`asyncio.to_thread`), for they get its context.
    """
    handled = HANDLED.get()
    return handled if isinstance(handled, Call) else None
