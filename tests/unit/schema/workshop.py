"""A vendor with a message of every kind, in both directions."""

import enum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bridge import Call, DataTransferResponse, Rejected, Router, StationMessage

router = Router("com.Acme", timeout=5.0)


class Kind(enum.Enum):
    AC = "ac"
    DC = "dc"


class TariffQuery(msgspec.Struct, rename="camel"):
    """What is asked."""

    connector_id: Annotated[int, Meta(ge=1)]
    """As it is written on the `station`."""
    kind: Kind = Kind.AC


class Tariff(msgspec.Struct, rename="camel"):
    currency: str
    energy_price: float
    """Per kWh."""


class Text(msgspec.Struct):
    text: Annotated[str, Meta(max_length=80)]
    lines: list[str] = []


class Shown(msgspec.Struct):
    at: str


@router.on("GetTariff")
async def get_tariff(call: Call, data: TariffQuery) -> Tariff:
    """Says what a kWh costs."""
    if data.connector_id > 2:
        raise Rejected("UnknownConnector")
    return Tariff("EUR", 0.49)


@router.on("Note")
async def note(call: Call, data: str | None = None) -> str | None:
    return data


@router.on("Whole")
async def whole(call: Call) -> DataTransferResponse:
    return DataTransferResponse("Rejected")


@router.on()
async def ping(call: Call) -> None: ...


@router.default
async def other(call: Call, data: msgspec.Raw | None) -> Any:
    return {"seen": True}


show_text = StationMessage(
    "com.acme", "ShowText", data=Text, answer=Shown, description="Shows a text on the display."
)
restart = StationMessage("com.acme", "Restart")
to_stations = [show_text, restart]
