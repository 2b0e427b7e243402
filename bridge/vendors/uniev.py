"""UNIEV and GRE (Korea): a member's card is registered at a station.

Source: the public code of several CSMS. The vendors have published no description. The vendorId is
"UNIEV", "GRE" or "gresystem", for the same messages: :func:`router` takes it, and each command has
``for_vendor``.

From the station        uvCardReg, uvCardRegStatus, uvGetIdTagProfile
To the station          uvStartCardRegMode, uvStopCardReqMode

`data` was always seen as an object, over OCPP 1.6 as well, in both directions. It is read that way;
what is sent over 1.6 is text, as OCPP asks for, and whether these stations read it is not known.
"""

from typing import Any, Final, Literal, Protocol, Unpack

from msgspec import Struct, field

from bridge import Call, Router
from bridge.vendors.pack import (
    Answer,
    Certainty,
    Command,
    RouterOptions,
    make_router,
    message,
)

VENDOR_ID: Final = "UNIEV"
CERTAINTY: Final = Certainty.OBSERVED


class _OfMember(Struct, rename="camel"):
    member_id: str = ""
    """Whose card it is; ``""``: the station did not say."""
    member_id_in_capitals: str = field(name="memberID", default="")
    """Another spelling, as it was seen, too. It is read into `member_id`."""

    def __post_init__(self) -> None:
        self.member_id = self.member_id or self.member_id_in_capitals
        self.member_id_in_capitals = ""


class CardRegistration(_OfMember, kw_only=True):
    """A card was presented: it is this member's."""

    token: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.member_id:
            raise ValueError("memberId is required")


class CardRegistrationStatus(_OfMember, kw_only=True):
    """Whether the station waits for a card now."""

    status: Literal["CardAuthMode", "Rejected"]


class IdTagQuery(Struct, rename="camel"):
    """What may be charged with this card?"""

    id_tag: str


class IdTagProfile(Struct):
    """What may be charged with a card."""

    power: str
    """A number as text. Its unit is not known."""


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("uvCardReg")
    def card_registered(self, call: Call, data: CardRegistration, /) -> Answer[None]:
        """Keep the member's card."""

    @message("uvCardRegStatus")
    def card_registration_status(self, call: Call, data: CardRegistrationStatus, /) -> Answer[None]:
        """Tell the member to present the card, or that it cannot be registered here."""

    @message("uvGetIdTagProfile")
    def get_id_tag_profile(self, call: Call, data: IdTagQuery, /) -> Answer[IdTagProfile]:
        """Say what may be charged; raise :class:`~bridge.Rejected` for a card that may not."""


def router(csms: CSMS, vendor_id: str = VENDOR_ID, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router.

    `vendor_id`: as your stations send it.
    """
    return make_router(vendor_id, CSMS, csms, **options)


class Member(Struct, rename="camel"):
    """Whose card is to be registered."""

    member_id: str


start_card_registration: Final[Command[Member, Any]] = Command(
    VENDOR_ID, "uvStartCardRegMode", Member
)
"""Have a station wait for a member's card. Whether it does, it tells by uvCardRegStatus."""

stop_card_registration: Final[Command[Member, Any]] = Command(
    VENDOR_ID, "uvStopCardReqMode", Member
)
"""Have it wait no longer."""
