"""The versions of OCPP that have DataTransfer, named by their WebSocket sub-protocols."""

import enum


class OcppVersion(enum.StrEnum):
    """A version of OCPP. The value is the WebSocket sub-protocol that a charging station
    negotiates.

    See OCPP-J 1.6 §3.2 and OCPP-J 2.0.1 §3.2.
    """

    V1_6 = "ocpp1.6"
    V2_0 = "ocpp2.0"
    V2_0_1 = "ocpp2.0.1"
    V2_1 = "ocpp2.1"


DEFAULT_VERSION = OcppVersion.V2_0_1
"""The version that a request without a version is taken to have."""


def parse_version(text: str) -> OcppVersion:
    """The version that `text` names, such as `ocpp2.0.1`.

    Raises ValueError, whose text lists the versions, for any other text.
    """
    try:
        return OcppVersion(text)
    except ValueError:
        known = ", ".join(OcppVersion)
        raise ValueError(f"Unknown OCPP version {text!r:.60}: expected one of {known}.") from None
