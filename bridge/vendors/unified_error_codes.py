"""Unified error codes over OCPP 1.6: what a StatusNotification has no room for.

Sources: public summaries of DIN DKE SPEC 99003, and CharIN's public draft of its Unified Error
Codes, which names that specification's way. A station sends this message with each
StatusNotification that tells of an error. The specification itself was not read. Its vendorId is a
urn, which :func:`router` takes; `org.charin.uec.v1` is what CharIN has proposed. The draft's own
way for OCPP 1.6 is the `vendorErrorCode` of StatusNotification alone, without this message. The
inner form of `parameters` is not known, and no list of codes is enforced.

From the station        StatusNotificationDetailRequest
"""

from typing import Any, Final, Protocol, Unpack
from uuid import UUID

from msgspec import Struct

from bridge import Call, Router
from bridge.vendors.pack import Answer, Certainty, RouterOptions, make_router, message

VENDOR_ID: Final = "org.charin.uec.v1"
CERTAINTY: Final = Certainty.OBSERVED


class StatusNotificationDetail(Struct, rename="camel"):
    """What happened, in more words than a StatusNotification has."""

    event_id: UUID
    """The `info` of the StatusNotification that this belongs to is the same UUID."""
    error_code: str
    parameters: Any = None
    """Plain JSON values; None: there are none."""


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("StatusNotificationDetailRequest")
    def status_notification_detail(
        self, call: Call, data: StatusNotificationDetail, /
    ) -> Answer[None]:
        """Keep it with its StatusNotification, which may come before it or after."""


def router(csms: CSMS, vendor_id: str = VENDOR_ID, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router.

    `vendor_id`: as your stations send it.
    """
    return make_router(vendor_id, CSMS, csms, **options)
