"""EV-BOX: `data` is comma-separated text, in which braces group several values into one field.

Source: public logs of EV-BOX stations and the code of two who read them, such as
github.com/evcc-io/evcc pull request 14733 and github.com/lbbrhzn/ocpp issue 221. The vendor has
published no description. The number of fields depends on the firmware; what all agree on are the
first 15, and of the others nothing is said here.

From the station        evbStatusNotification, evbWifiStatusNotification, evbConnectionInfo
"""

from typing import Final, Protocol, Self, Unpack

from msgspec import Struct

from bridge import Call, Router
from bridge.vendors.pack import Answer, Certainty, RouterOptions, make_router, message

VENDOR_ID: Final = "EV-BOX"
CERTAINTY: Final = Certainty.OBSERVED


def split_fields(text: str) -> list[str]:
    """The fields of `text`: `1,Charging,{32,22000,53}` has three, the last in its braces."""
    fields, depth, begin = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            fields.append(text[begin:at])
            begin = at + 1
    return [*fields, text[begin:]]


class StatusNotification(Struct, frozen=True):
    """What a station is doing. It is sent every half minute or so."""

    connector_id: int
    status: str
    """As in OCPP's StatusNotification, such as "Charging"."""
    error_code: str
    """As in OCPP's StatusNotification, such as "NoError"."""
    info: str
    led_colour: str
    energy: int
    """The meter's reading, in Wh."""
    session_energy: int
    """Of this session, in Wh."""
    pilot: str
    """The state of the control pilot (IEC 61851): "A" without a vehicle, "C" while it charges."""
    timestamp: str
    transaction_id: int
    """0: there is none."""
    fields: tuple[str, ...]
    """All fields, as they came."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises ValueError for what has fewer than 15 fields, or others than are known."""
        fields = split_fields(text)
        if len(fields) < 15:
            raise ValueError(f"expected 15 fields or more, got {len(fields)}")
        try:
            energy, session_energy, *_ = fields[8].strip("{}").split(",")
            return cls(
                connector_id=int(fields[0]),
                status=fields[1],
                error_code=fields[2],
                info=fields[3],
                led_colour=fields[5],
                energy=int(energy),
                session_energy=int(session_energy),
                pilot=fields[9].strip("{}").partition(",")[0],
                timestamp=fields[13],
                transaction_id=int(fields[14]),
                fields=tuple(fields),
            )
        except ValueError:
            raise ValueError("connector, energy or transaction is no number") from None


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("evbStatusNotification")
    def status_notification(self, call: Call, data: StatusNotification, /) -> Answer[None]:
        """Keep it; OCPP's own StatusNotification comes as well."""

    @message("evbWifiStatusNotification")
    def wifi_status_notification(self, call: Call, data: str, /) -> Answer[None]:
        """A text whose form is not known, such as "7,Home"."""

    @message("evbConnectionInfo")
    def connection_info(self, call: Call, data: str, /) -> Answer[None]:
        """A text whose form is not known, or the JSON text of an object."""


def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router."""
    return make_router(VENDOR_ID, CSMS, csms, **options)
