"""Why a request has no answer."""

from bridge.ocpp import DataTransferResponse
from bridge.transport import TransportError


class NoAnswer(TimeoutError):
    """Nobody answered in time, or before the client was closed.

    The request may have been handled all the same.
    """


class NotAccepted(TransportError):
    """The broker did not take the request: there is no exchange or queue for it, or a full one."""


class UnexpectedAnswer(ValueError):
    """The request was answered, but not with data of the type that was asked for."""

    def __init__(self, text: str, response: DataTransferResponse) -> None:
        """`response`: the answer as it came."""
        super().__init__(text)
        self.response = response


class StationOffline(ConnectionError):
    """No gateway holds the station, or the gateway that held it has lost it.

    A gateway's handler raises it to say that the station's connection is gone.
    """

    def __init__(self, station_id: str, *, sent: bool = False) -> None:
        """`sent`: the station had been sent the request, so it may have handled it."""
        after = ": it was lost after it had been sent the request" if sent else ""
        super().__init__(f"station {station_id!r} is not connected{after}")
        self.station_id = station_id
        self.sent = sent


def no_queue() -> NotAccepted:
    """The error if no queue took a request."""
    return NotAccepted("no queue takes the request: is the topology declared?")
