"""How the requests of one direction are counted: what answer each had, and how long it took."""

from typing import Final

from bridge.client.errors import NoAnswer, StationOffline
from bridge.dialects.replies import read_offline
from bridge.request.outcome import Kind
from bridge.telemetry.measures import Tally
from bridge.transport import Delivery, TransportError

KINDS: Final = ("response", "call_error", "offline", "no_answer", "not_accepted", "cancelled")
"""What became of a request, as metrics name it."""
_RESPONSE, _CALL_ERROR, _OFFLINE, _NO_ANSWER, _NOT_ACCEPTED, _CANCELLED = range(len(KINDS))


def asked(direction: str) -> Tally:
    """A tally of requests in one direction."""
    return Tally((direction,), KINDS)


def count_reply(tally: Tally, reply: Delivery, seconds: float) -> None:
    """Count a request that has had a reply after so many seconds."""
    if read_offline(reply) is not None:
        tally.count(_OFFLINE)
        return
    error = reply.properties.type == Kind.CALL_ERROR.value
    tally.count(_CALL_ERROR if error else _RESPONSE)
    tally.seconds.observe(seconds)


def count_error(tally: Tally, error: BaseException) -> None:
    """Count a request that has none."""
    match error:
        case NoAnswer():
            tally.count(_NO_ANSWER)
        case StationOffline():
            tally.count(_OFFLINE)
        case TransportError() | ValueError():  # NotAccepted is a TransportError
            tally.count(_NOT_ACCEPTED)
        case _:
            tally.count(_CANCELLED)
