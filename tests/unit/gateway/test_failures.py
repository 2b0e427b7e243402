"""What a gateway's log says of a station's handler that fails, and of its own lines."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from bridge import CallError, Client
from bridge.dialects.names import Names
from bridge.dialects.topology import gateway_topology
from bridge.gateway import GatewayLink, StationHandler
from bridge.ocpp import DataTransferRequest, DataTransferResponse
from bridge.telemetry.handled import facts
from bridge.testing import MemoryBroker
from bridge.testing.memory_transport import MemoryTransport


async def fails(request: DataTransferRequest) -> DataTransferResponse:
    raise LookupError("a secret")


def fails_in_a_thread(request: DataTransferRequest) -> DataTransferResponse:
    raise LookupError("a secret")


async def too_late(request: DataTransferRequest) -> DataTransferResponse:
    raise TimeoutError


async def asked(handler: StationHandler) -> CallError:
    broker = MemoryBroker()
    broker.declare(gateway_topology(Names()))
    async with (
        GatewayLink(transport=MemoryTransport(broker)) as link,
        Client(transport=MemoryTransport(broker)) as client,
    ):
        await link.connect_station("CP1", "ocpp2.0.1", handler)
        with pytest.raises(CallError) as caught:
            await client.send_to_station("CP1", DataTransferRequest("v", "m"))
        await link.disconnect_station("CP1")
        return caught.value


@pytest.mark.parametrize("handler", [fails, fails_in_a_thread])
async def test_it_is_one_record_with_its_traceback_and_no_word_to_the_csms(
    handler: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    error = await asked(handler)
    assert "secret" not in f"{error} {error.details}"
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    told = record.__dict__["bridge"]
    assert told["event"] == "request to a station failed"
    assert told["handler"] == f"{__name__}.{handler.__name__}"
    assert (told["station"], told["vendor"], told["message"]) == ("CP1", "v", "m")
    assert record.exc_info is not None
    assert record.exc_info[2] is not None
    assert record.exc_info[2].tb_frame.f_code is handler.__code__


async def test_what_a_handler_with_callbacks_raises_is_told_so_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Calls:
        def start_call(self, payload: bytes, on_answer: Callable[..., None]) -> None:
            raise LookupError("a secret")

        def give_up_call(self) -> None: ...

    error = await asked(Calls())
    assert "secret" not in f"{error} {error.details}"
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    told = record.__dict__["bridge"]
    assert told["handler"].endswith("Calls.start_call")
    assert (told["station"], told["vendor"], told["message"]) == ("CP1", "v", "m")
    assert record.exc_info is not None
    assert record.exc_info[2] is not None
    assert record.exc_info[2].tb_frame.f_code is Calls.start_call.__code__


async def test_a_station_that_is_late_is_no_fault_of_anybodys_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await asked(too_late)
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert (record.levelname, record.exc_info) == ("WARNING", None)


async def test_lines_of_a_stations_handler_say_which_request_they_are_about() -> None:
    seen: list[dict[str, str]] = []
    broker = MemoryBroker()
    broker.declare(gateway_topology(Names()))

    async def answer(request: DataTransferRequest) -> DataTransferResponse:
        await asyncio.sleep(0)
        seen.append(facts())
        return DataTransferResponse("Accepted")

    async with (
        GatewayLink(transport=MemoryTransport(broker)) as link,
        Client(transport=MemoryTransport(broker)) as client,
    ):
        await link.connect_station("CP1", "ocpp2.0.1", answer)
        await client.send_to_station("CP1", DataTransferRequest("v", "m"))
        await link.disconnect_station("CP1")
    assert {"station": "CP1", "vendor": "v", "message": "m"}.items() <= seen[0].items()
