"""The versions of OCPP that carry DataTransfer, by the names of their WebSocket sub-protocols."""

import enum


class OcppVersion(enum.StrEnum):
    """A version of OCPP; the value is the WebSocket sub-protocol a charging station negotiates."""

    V1_6 = "ocpp1.6"
    V2_0 = "ocpp2.0"
    V2_0_1 = "ocpp2.0.1"
    V2_1 = "ocpp2.1"


DEFAULT_VERSION = OcppVersion.V2_0_1
"""The version of a request that names none."""


def parse_version(text: str) -> OcppVersion:
    """The version that `text` (such as `ocpp2.0.1`) names. Raises ValueError with a sentence for any other text."""
    try:
        return OcppVersion(text)
    except ValueError:
        known = ", ".join(OcppVersion)
        raise ValueError(f"Unknown OCPP version {text!r:.60}: expected one of {known}.") from None
