"""DataTransferRequest and DataTransferResponse as values.

The values themselves check nothing: `request.py` and `response.py` check, read and write them. In
OCPP 2.x `data` is any JSON value, so absent and null differ: `msgspec.UNSET` is absent, None is
null.
"""

import contextlib
import enum
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct

VENDOR_ID_MAX_LENGTH = 255
"""The most characters of a vendorId in all versions, and of the vendorId inside customData."""

MESSAGE_ID_MAX_LENGTH = 50
"""The most characters of the messageId inside a DataTransferRequest, in all versions."""


class DataTransferStatus(enum.StrEnum):
    """The four answers to a DataTransfer (OCPP 1.6 §7.23, OCPP 2.0.1 DataTransferStatusEnumType).

    They are the same in every version.
    """

    ACCEPTED = "Accepted"
    """The message is accepted, and so is the request in it."""

    REJECTED = "Rejected"
    """The message is accepted, but the request in it is rejected."""

    UNKNOWN_MESSAGE_ID = "UnknownMessageId"
    """The receiver knows the vendorId but not the messageId."""

    UNKNOWN_VENDOR_ID = "UnknownVendorId"
    """The receiver has no implementation for the vendorId."""


class StatusInfo(Struct, rename="camel", omit_defaults=True):
    """More about a status (OCPP 2.0.1 and 2.1, StatusInfoType)."""

    reason_code: str
    """A code from the list of the specification (OCPP 2.0.1 Appendix 5), at most 20 characters."""

    additional_info: str | None = None
    """Free text, at most 512 characters in 2.0.1 and 1,024 in 2.1. None: absent."""

    custom_data: dict[str, Any] | None = None
    """Any JSON object whose `vendorId` (required) has at most 255 characters. None: absent."""


class DataTransferRequest(Struct, rename="camel", omit_defaults=True):
    """A vendor's message, in either direction: DataTransfer.req (OCPP 1.6 §6.15, 2.0.1 P01, P02).

    For example `DataTransferRequest("EN+", "gatewayInfo", {"SN": "1"})`. The value itself checks
    nothing; `encode_request` checks it for the version that it is written in.
    """

    vendor_id: str
    """The vendor whose message it is: free text of at most 255 characters."""

    message_id: str | None = None
    """Which of the vendor's messages it is: at most 50 characters. None: absent."""

    data: Any = UNSET
    """Text in OCPP 1.6, any JSON value in 2.x. `msgspec.UNSET`: absent. None: null. In 1.6
    `encode_request` writes any other value as JSON text."""

    custom_data: dict[str, Any] | None = None
    """OCPP 2.0.1 and later: any JSON object whose `vendorId` (required) has at most 255 characters.
    None: absent."""


class DataTransferResponse(Struct, rename="camel", omit_defaults=True):
    """The answer to a DataTransferRequest: DataTransfer.conf (OCPP 1.6 §6.16, 2.0.1 P01, P02).

    For example `DataTransferResponse("Accepted", {"cost": 3.2})`. The value itself checks nothing;
    `encode_response` checks it for the version that it is written in.
    """

    status: DataTransferStatus
    """May be given as its text. A text that is none of the four is kept, so that `encode_response`
    can name it."""

    data: Any = UNSET
    """Text in OCPP 1.6, any JSON value in 2.x. `msgspec.UNSET`: absent. None: null."""

    status_info: StatusInfo | None = None
    """OCPP 2.0.1 and later; not written in older versions. None: absent."""

    custom_data: dict[str, Any] | None = None
    """OCPP 2.0.1 and later: any JSON object whose `vendorId` (required) has at most 255 characters.
    Not written in older versions. None: absent."""

    if TYPE_CHECKING:  # what is given is not of the type that is read

        def __init__(
            self,
            status: DataTransferStatus | str,
            data: Any = UNSET,
            status_info: StatusInfo | None = None,
            custom_data: dict[str, Any] | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        given: Any = self.status
        if type(given) is not DataTransferStatus:
            with contextlib.suppress(ValueError):
                self.status = DataTransferStatus(given)
