"""Charging stations by another implementation: the package `ocpp` of The Mobility House.

It speaks OCPP 1.6, 2.0.1 and 2.1. It makes the frames, validates what it sends and receives against
the schemas of the version, and matches answers with its CALLs. The frames on the wire are kept as
well.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast

import ocpp.v16
import ocpp.v16.call
import ocpp.v16.call_result
import ocpp.v16.datatypes
import ocpp.v21
import ocpp.v21.call
import ocpp.v21.call_result
import ocpp.v21.datatypes
import ocpp.v201
import ocpp.v201.call
import ocpp.v201.call_result
import ocpp.v201.datatypes
from ocpp.routing import on
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.integration.support import PATIENCE

logging.getLogger("ocpp").setLevel(logging.CRITICAL)
"""The package logs a whole traceback for each error that a test provokes."""

Answer = Callable[[dict[str, Any]], Awaitable[Any]]
"""How a station answers a DataTransfer: its fields, in snake case → the fields of the response."""


async def unknown_vendor(_: dict[str, Any]) -> Any:
    return {"status": "UnknownVendorId"}


def _charge_point(package: Any) -> type[Any]:
    """The package's station for one version, which answers a DataTransfer and keeps the frames."""

    class ChargePoint(package.ChargePoint):  # type: ignore[misc]  # the package is untyped
        answer: Answer
        frames: list[Any]

        @on("DataTransfer")  # type: ignore[untyped-decorator]  # the same
        async def on_data_transfer(self, **fields: Any) -> Any:
            return package.call_result.DataTransfer(**await self.answer(fields))

        async def route_message(self, raw_msg: str) -> None:
            self.frames.append(json.loads(raw_msg))
            await super().route_message(raw_msg)

    return ChargePoint


_PACKAGES: Mapping[str, Any] = {"ocpp1.6": ocpp.v16, "ocpp2.0.1": ocpp.v201, "ocpp2.1": ocpp.v21}
_CHARGE_POINTS = {version: _charge_point(package) for version, package in _PACKAGES.items()}
VERSIONS = tuple(_PACKAGES)


@dataclasses.dataclass
class DataTransfer:
    """A request that may break the schema.

    The package makes a CALL from any dataclass, whose name is the action.
    """

    vendor_id: Any = None
    message_id: Any = None
    data: Any = None


class RealStation:
    """One connected station."""

    def __init__(
        self, station_id: str, version: str, connection: ClientConnection, answer: Answer
    ) -> None:
        self.station_id = station_id
        self.version = version
        self.connection = connection
        self._package = _PACKAGES[version]
        self.charge_point = _CHARGE_POINTS[version](
            station_id, connection, response_timeout=PATIENCE
        )
        self.charge_point.answer = answer
        self.charge_point.frames = []

    async def boot(self) -> Any:
        """Send a BootNotification, as after power-up; the response, validated by the package."""
        call = self._package.call
        if self.version == "ocpp1.6":
            request = call.BootNotification(
                charge_point_model="Wallbox", charge_point_vendor="Acme"
            )
        else:
            station = self._package.datatypes.ChargingStationType(
                model="Wallbox", vendor_name="Acme"
            )
            request = call.BootNotification(charging_station=station, reason="PowerUp")
        return await self.charge_point.call(request, suppress=False)

    async def heartbeat(self) -> Any:
        return await self.charge_point.call(self._package.call.Heartbeat(), suppress=False)

    async def status(self) -> Any:
        """Report that the first connector is available."""
        call = self._package.call
        if self.version == "ocpp1.6":
            request = call.StatusNotification(
                connector_id=1, error_code="NoError", status="Available"
            )
        else:
            request = call.StatusNotification(
                timestamp="2026-03-14T18:22:05Z",
                connector_status="Available",
                evse_id=1,
                connector_id=1,
            )
        return await self.charge_point.call(request, suppress=False)

    async def data_transfer(
        self, vendor_id: str, message_id: str | None = None, data: Any = None
    ) -> Any:
        """Send a DataTransfer. The package validates it and the response, and raises its errors."""
        request = self._package.call.DataTransfer(
            vendor_id=vendor_id, message_id=message_id, data=data
        )
        return await self.charge_point.call(request, suppress=False)

    async def ask(self, fields: DataTransfer, message_id: str) -> list[Any]:
        """Send a DataTransfer that need not be valid; the frame that answers it, as on the wire."""
        self.charge_point.frames.clear()
        await self.charge_point.call(
            fields, suppress=True, unique_id=message_id, skip_schema_validation=True
        )
        (frame,) = (frame for frame in self.charge_point.frames if frame[1] == message_id)
        return cast("list[Any]", frame)


@contextlib.asynccontextmanager
async def real_station(
    url: str, version: str, *, answer: Answer = unknown_vendor, **options: Any
) -> AsyncIterator[RealStation]:
    """Connect a station to `url`, which ends with its id. `answer`: to the CSMS's DataTransfers."""
    connection = await connect(url, subprotocols=[Subprotocol(version)], proxy=None, **options)
    station = RealStation(url.rpartition("/")[2], version, connection, answer)
    serving = asyncio.create_task(station.charge_point.start())
    try:
        yield station
    finally:
        await connection.close()
        with contextlib.suppress(ConnectionClosed):
            await serving
