"""The handlers behind the decision table: a request's messageId says what it gets.

Run as `dtbridge run tests.integration.decision_table_vendors:routers`.
"""

import asyncio

import msgspec

from bridge import (
    Call,
    DataTransferResponse,
    DataTransferStatus,
    Rejected,
    Retry,
    Router,
    StatusInfo,
)

HANDLER_TIMEOUT = 0.3
"""Seconds."""

plain = Router("com.Acme", timeout=HANDLER_TIMEOUT)
catch_all = Router("EN+")


class Tariff(msgspec.Struct):
    currency: str
    price: float


@plain.on("Value")
async def value(call: Call, data: Tariff) -> Tariff:
    return Tariff(data.currency, data.price * 2)


@plain.on("Nothing")
async def nothing(call: Call) -> None:
    pass


@plain.on("Response")
async def response(call: Call) -> DataTransferResponse:
    return DataTransferResponse(DataTransferStatus.REJECTED, "as it is", StatusInfo("Busy"))


@plain.on("InvalidResponse")
async def invalid_response(call: Call) -> DataTransferResponse:
    return DataTransferResponse("Perhaps")


@plain.on("Rejected")
async def refuse(call: Call) -> None:
    raise Rejected("NoTariff", "not here")


@plain.on("ComesBack")
async def comes_back(call: Call) -> str:
    if call.attempt == 1:
        raise Retry(after=0.05, reason="the database is away")
    return "at last"


@plain.on("NeverWorks")
async def never_works(call: Call) -> None:
    raise Retry(after=0.7, reason="the database is away for good")


@plain.on("Raises")
async def raises(call: Call) -> None:
    raise RuntimeError("password=hunter2")


@plain.on("Hangs")
async def hangs(call: Call) -> None:
    await asyncio.Event().wait()


@plain.on("Sleeps")
async def sleeps(call: Call) -> None:
    """Takes longer than its request's deadline, and cannot be cancelled."""
    await asyncio.shield(asyncio.sleep(0.2))


@plain.on("Thread")
def in_a_thread(call: Call, data: str) -> str:
    return data.upper()


@plain.on("Context")
async def context(call: Call) -> dict[str, object]:
    return {
        "station": call.station_id,
        "version": call.ocpp_version.value,
        "id": call.ocpp_message_id,
    }


@catch_all.default
async def anything(call: Call) -> str | None:
    return call.message_id


routers = [plain, catch_all]
