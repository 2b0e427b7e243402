"""How the requests of one direction are counted: what answer each had, and how long it took."""

from typing import Final

from bridge.client.errors import NoAnswer, StationOffline
from bridge.compiled import fields
from bridge.dialects.headers import OFFLINE_TYPE
from bridge.request.outcome import Kind
from bridge.telemetry.measures import Tally
from bridge.transport import Delivery, Properties, TransportError

fields.check((Delivery, Properties))

KINDS: Final = ("response", "call_error", "offline", "no_answer", "not_accepted", "cancelled")
"""What became of a request, as metrics name it."""
_RESPONSE: Final = 0
_CALL_ERROR: Final = 1
_OFFLINE: Final = 2
_NO_ANSWER: Final = 3
_NOT_ACCEPTED: Final = 4
_CANCELLED: Final = 5

_ERROR_TYPE: Final = Kind.CALL_ERROR.value
"""A name of its own, because the value of a member is worked out at each use."""


def asked(direction: str) -> Tally:
    """A tally of requests in one direction."""
    return Tally((direction,), KINDS)


def count_reply(tally: Tally, reply: Delivery, seconds: float) -> None:
    """Count a request that has had a reply after so many seconds."""
    kind = reply.properties.type
    if kind == OFFLINE_TYPE:
        tally.count(_OFFLINE)
        return
    tally.count(_CALL_ERROR if kind == _ERROR_TYPE else _RESPONSE)
    tally.seconds.observe(seconds)


def count_error(tally: Tally, error: BaseException) -> None:
    """Count a request that has none."""
    if isinstance(error, NoAnswer):
        tally.count(_NO_ANSWER)
    elif isinstance(error, StationOffline):
        tally.count(_OFFLINE)
    elif isinstance(error, TransportError | ValueError):  # NotAccepted is a TransportError
        tally.count(_NOT_ACCEPTED)
    else:
        count_cancelled(tally)


def count_cancelled(tally: Tally) -> None:
    """Count a request whose answer nobody wants any more."""
    tally.count(_CANCELLED)
