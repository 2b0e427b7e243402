"""A handler that asks a slow HTTP API, which is down at times.

It shows one HTTP client for all requests, opened in the lifespan; a time-out for each try that
never exceeds what the station still waits; which failures mean another try, and which do not.

    pip install httpx
    TARIFF_API=https://tariffs.example.com dtbridge run examples.slow_api:router
    dtbridge send --station CP001 --vendor com.acme --message GetTariff --data '{"connectorId": 1}'
"""

import asyncio
import os
from collections.abc import AsyncIterator

import httpx
import msgspec

from bridge import Call, Rejected, Retry, RetryPolicy, Router

router = Router(
    "com.acme",
    # The API's failures that pass: no connection, a lost one, no answer in time. The request then
    # waits in a queue of the broker, not here, and goes to whichever worker is free.
    retry=RetryPolicy(attempts=5, first=0.5, on=(httpx.TransportError, TimeoutError)),
    concurrency=20,  # as many calls are open at a time: the API is slow enough already
)


class Tariffs(msgspec.Struct):
    """What handlers share."""

    http: httpx.AsyncClient
    patience: float
    """Seconds that one try may take."""


@router.lifespan
async def open_tariffs() -> AsyncIterator[Tariffs]:
    patience = float(os.environ.get("TARIFF_API_TIMEOUT", "5"))
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(
        base_url=os.environ["TARIFF_API"], timeout=patience, limits=limits
    ) as http:
        yield Tariffs(http, patience)


class TariffQuery(msgspec.Struct, rename="camel"):
    connector_id: int


class Tariff(msgspec.Struct, rename="camel"):
    currency: str
    energy_price: float
    """Per kWh."""


@router.on("GetTariff")
async def get_tariff(call: Call[Tariffs], data: TariffQuery) -> Tariff:
    patience = call.state.patience
    if call.remaining is not None:
        patience = min(patience, call.remaining)  # later than that nobody waits
    # httpx bounds each read, not the whole answer: one that drips must not hold a place for ever.
    async with asyncio.timeout(patience):
        response = await call.state.http.get(f"/connectors/{data.connector_id}/tariff")
    if response.status_code == httpx.codes.NOT_FOUND:
        raise Rejected("UnknownConnector")  # an answer, and a good one
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        raise Retry(after=pause_asked_for(response), reason=f"HTTP {response.status_code}")
    response.raise_for_status()  # any other is our own mistake: InternalError, and a dead letter
    return msgspec.json.decode(response.content, type=Tariff)


def pause_asked_for(response: httpx.Response) -> float | None:
    """Seconds of the header Retry-After. None: as the policy says."""
    asked_for = response.headers.get("retry-after", "")
    return float(asked_for) if asked_for.isdecimal() else None
