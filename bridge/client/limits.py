"""What a request can be sent with: checked before it is, because nobody could answer it."""

import math
from typing import Any

from bridge.dialects.headers import STATION_ID_MAX_LENGTH
from bridge.ocpp.rpc import check_length


def check_station_id(station_id: str) -> None:
    """Raises ValueError, with a sentence, for what is no station's id in the wire contract."""
    check_length("a station id", station_id, STATION_ID_MAX_LENGTH)


def check_seconds(name: str, seconds: Any) -> None:
    """Raises ValueError unless it is a number of seconds above 0, and not endless."""
    if type(seconds) not in {int, float} or not 0 < seconds < math.inf:
        raise ValueError(f"{name} is a number of seconds above 0, not {seconds!r:.80}")
