"""DataTransferRequest and DataTransferResponse as values; how they are checked and written is told in
`request.py` and `response.py`.

Absent and null are two things in OCPP 2.x, where `data` is any JSON value: `msgspec.UNSET` is absent, `None` is null.
"""

import contextlib
import enum
from typing import Any

from msgspec import UNSET, Struct

VENDOR_ID_MAX_LENGTH = 255
"""Characters of a vendorId (all versions), and of the vendorId inside customData."""

MESSAGE_ID_MAX_LENGTH = 50
"""Characters of the messageId inside a DataTransferRequest (all versions)."""


class DataTransferStatus(enum.StrEnum):
    """The four answers to a DataTransfer (OCPP 1.6 §7.23; OCPP 2.0.1 DataTransferStatusEnumType)."""

    ACCEPTED = "Accepted"
    """Message accepted, and the contained request too."""

    REJECTED = "Rejected"
    """Message accepted, but the contained request is not."""

    UNKNOWN_MESSAGE_ID = "UnknownMessageId"
    """The vendor is known, the messageId is not."""

    UNKNOWN_VENDOR_ID = "UnknownVendorId"
    """There is no implementation for this vendorId."""


class StatusInfo(Struct, rename="camel", omit_defaults=True):
    """More about a status (OCPP 2.0.1 StatusInfoType)."""

    reason_code: str
    """A predefined code, at most 20 characters."""

    additional_info: str | None = None
    """Free text, at most 512 characters in 2.0.1 and 1,024 in 2.1."""

    custom_data: dict[str, Any] | None = None


class DataTransferRequest(Struct, rename="camel", omit_defaults=True):
    """A vendor's message, in either direction: `DataTransferRequest("EN+", "gatewayInfo", {"SN": "1"})`.

    The value itself checks nothing; `encode_request` does, for the version it is written in.
    """

    vendor_id: str
    """Whose message it is; at most 255 characters, free text."""

    message_id: str | None = None
    """Which message of that vendor; at most 50 characters."""

    data: Any = UNSET
    """UNSET: none. None: null. Text in OCPP 1.6, any JSON value in 2.x."""

    custom_data: dict[str, Any] | None = None
    """OCPP 2.0.1 and later; its own `vendorId` is required."""


class DataTransferResponse(Struct, rename="camel", omit_defaults=True):
    """The answer to a DataTransferRequest: `DataTransferResponse("Accepted", {"cost": 3.2})`."""

    status: str
    """A DataTransferStatus. It may be given as its text; a text that is none of the four is kept as it is, so
    that `encode_response` can name it."""

    data: Any = UNSET
    """UNSET: none. None: null. Text in OCPP 1.6, any JSON value in 2.x."""

    status_info: StatusInfo | None = None
    """OCPP 2.0.1 and later; left out in older versions."""

    custom_data: dict[str, Any] | None = None
    """OCPP 2.0.1 and later; left out in older versions."""

    def __post_init__(self) -> None:
        if type(self.status) is not DataTransferStatus:
            with contextlib.suppress(ValueError):
                self.status = DataTransferStatus(self.status)
