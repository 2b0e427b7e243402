"""A handler for one message of one vendor. Run it with `dtbridge run examples.acme:router`."""

import msgspec

from bridge import Call, Rejected, Router

router = Router("com.acme")


class TariffQuery(msgspec.Struct, rename="camel"):
    connector_id: int


class Tariff(msgspec.Struct, rename="camel"):
    currency: str
    energy_price: float
    """Per kWh."""


TARIFFS = {1: Tariff("EUR", 0.49), 2: Tariff("EUR", 0.59)}


@router.on("GetTariff")
async def get_tariff(call: Call, data: TariffQuery) -> Tariff:
    if data.connector_id not in TARIFFS:
        raise Rejected(
            "UnknownConnector", f"{call.station_id} has no connector {data.connector_id}"
        )
    return TARIFFS[data.connector_id]
