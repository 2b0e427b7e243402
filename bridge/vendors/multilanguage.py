"""Texts for a driver in several languages, inside customData of OCPP 2.0.1.

Source: "OCPP & California Pricing Requirements", application note v3, Open Charge Alliance, section
4, and the types of OCPP 2.0.1 (MessageContentType). There is no DataTransfer of this vendor: its id
stands in the customData beside a `personalMessage`, in an Authorize.conf for one. What CSMS and
station say in the customData of a DataTransfer is read and written the same way.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from bridge.vendors.pack import Certainty, checked

VENDOR_ID: Final = "org.openchargealliance.multilanguage"
CERTAINTY: Final = Certainty.SPECIFIED


class MessageContent(Struct, omit_defaults=True):
    """A text, and its language."""

    content: Annotated[str, Meta(max_length=512)]
    language: Annotated[str, Meta(max_length=8)] | None = None
    """As of RFC 5646, such as "en" or "de-AT"."""
    format: Literal["ASCII", "HTML", "URI", "UTF8"] = msgspec.field(
        default_factory=lambda: "UTF8"  # required on the wire, so it is never left out
    )


class _Messages(Struct, rename="camel"):
    vendor_id: str
    personal_message_extra: Annotated[list[MessageContent], Meta(max_length=4)]


def custom_data(messages: Iterable[MessageContent]) -> dict[str, Any]:
    """The customData that has a text in further languages, at most four.

    Raises ValueError for what the note does not allow, with the path of the fault.
    """
    made = checked(_Messages, "customData", _Messages(VENDOR_ID, list(messages)))
    plain: dict[str, Any] = msgspec.to_builtins(made)
    return plain


def personal_messages(custom_data: Mapping[str, Any] | None) -> list[MessageContent]:
    """The texts in a customData; none, if it is absent or another vendor's.

    Raises ValueError for what the note does not allow, with the path of the fault.
    """
    if custom_data is None or custom_data.get("vendorId") != VENDOR_ID:
        return []
    return msgspec.convert(custom_data, _Messages).personal_message_extra
