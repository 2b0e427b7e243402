"""What a request can be sent with: checked before it is, because nobody could answer it."""

from bridge.dialects.headers import STATION_ID_MAX_LENGTH
from bridge.ocpp.rpc import OCPP_MESSAGE_ID_MAX_LENGTH


def check_station_id(station_id: str) -> None:
    """Raises ValueError, with a sentence, for what is no station's id in the wire contract."""
    _check("a station id", station_id, STATION_ID_MAX_LENGTH)


def check_message_id(message_id: str | None) -> None:
    """Likewise for an OCPP message id. None: one will be made."""
    if message_id is not None:
        _check("a message id", message_id, OCPP_MESSAGE_ID_MAX_LENGTH)


def _check(what: str, text: str, longest: int) -> None:
    if not 0 < len(text) <= longest:
        raise ValueError(f"{what} has 1 to {longest} characters, not {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is text, and {text!r} has no form in UTF-8") from None
