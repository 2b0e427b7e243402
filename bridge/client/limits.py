"""What a request can be sent with: checked before it is, because nobody could answer it."""

from bridge.dialects.headers import STATION_ID_MAX_LENGTH
from bridge.ocpp.rpc import check_length


def check_station_id(station_id: str) -> None:
    """Raises ValueError, with a sentence, for what is no station's id in the wire contract."""
    check_length("a station id", station_id, STATION_ID_MAX_LENGTH)
