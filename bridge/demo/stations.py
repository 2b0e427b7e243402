"""Simulated charging stations: WebSocket clients that speak OCPP-J.

They boot, send requests, and answer the CSMS's requests. A gateway cannot tell them from real ones.
"""

import asyncio
import contextlib
import datetime as dt
import itertools
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bridge.demo.verdict import Answer
from bridge.ocpp import (
    FEATURE_NAME,
    CallError,
    CallErrorFrame,
    CallFrame,
    CallResultFrame,
    DataTransferRequest,
    DataTransferResponse,
    DataTransferStatus,
    ErrorCode,
    Frame,
    FrameError,
    OcppVersion,
    call_error_frame,
    decode_frame,
    decode_request,
    encode_frame,
    encode_response,
)
from bridge.ocpp.errors import call_error_body
from bridge.request.outcome import Kind


class StationFailed(RuntimeError):
    """A station did not come up."""


class Firmware:
    """How these stations answer a DataTransfer: a :class:`bridge.ChargingStationHandler`."""

    async def on_data_transfer(self, request: DataTransferRequest) -> DataTransferResponse:
        match request.vendor_id, request.message_id:
            case "org.openchargealliance.costmsg", "SetUserPrice":
                return DataTransferResponse(DataTransferStatus.ACCEPTED)
            case "org.openchargealliance.iso15118pnc", "GetInstalledCertificateIds":
                return DataTransferResponse(DataTransferStatus.ACCEPTED, {"status": "NotFound"})
            case "com.example.workshop", "Echo":
                return DataTransferResponse(DataTransferStatus.ACCEPTED, request.data)
            case "com.example.workshop", "Crash":
                raise CallError(ErrorCode.INTERNAL_ERROR, "the display is broken")
            case (
                (
                    "org.openchargealliance.costmsg"
                    | "org.openchargealliance.iso15118pnc"
                    | "com.example.workshop"
                ),
                _,
            ):
                return DataTransferResponse(DataTransferStatus.UNKNOWN_MESSAGE_ID)
            case _:
                return DataTransferResponse(DataTransferStatus.UNKNOWN_VENDOR_ID)


BOOT: dict[str, dict[str, Any]] = {
    OcppVersion.V1_6: {"chargePointVendor": "Demo", "chargePointModel": "Wallbox"},
    OcppVersion.V2_0_1: {
        "reason": "PowerUp",
        "chargingStation": {"vendorName": "Demo", "model": "Wallbox"},
    },
    OcppVersion.V2_1: {
        "reason": "PowerUp",
        "chargingStation": {"vendorName": "Demo", "model": "Wallbox"},
    },
}
"""The payload of a BootNotification, by version."""


def _available(version: OcppVersion) -> dict[str, Any]:
    """The payload of a StatusNotification."""
    if version is OcppVersion.V1_6:
        return {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
    now = dt.datetime.now(dt.UTC).isoformat()
    return {"timestamp": now, "connectorStatus": "Available", "evseId": 1, "connectorId": 1}


class Station:
    """One station. It is a context manager: inside it, the station is connected and has booted.

    It has one CALL outstanding at a time.
    """

    def __init__(self, url: str, station_id: str, version: OcppVersion) -> None:
        """`url`: the gateway's URL, without the station's id."""
        self.station_id = station_id
        self.version = version
        self._url = f"{url}/{station_id}"
        self._firmware = Firmware()
        self._numbers = itertools.count(1)
        self._answer: asyncio.Future[Answer] | None = None
        self._connection: ClientConnection
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Connect and boot. Raises OSError, StationFailed, or InvalidHandshake of websockets."""
        subprotocol = Subprotocol(self.version.value)
        self._connection = await connect(
            self._url, subprotocols=[subprotocol], proxy=None, ping_interval=None
        )
        self._reading = asyncio.create_task(self._read())
        for action, payload in (
            ("BootNotification", BOOT[self.version]),
            ("StatusNotification", _available(self.version)),
        ):
            answer = await self.ask(action, msgspec.json.encode(payload), 10.0)
            if answer.type != Kind.RESPONSE.value:
                raise StationFailed(
                    f"{action} of {self.station_id} was answered {answer.body.decode()}"
                )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._connection.close()
        await self._reading

    async def ask(self, action: str, payload: bytes, wait: float) -> Answer:
        """Send a CALL whose payload is exactly these bytes, and await the answer.

        `wait`: seconds. Raises TimeoutError if there is no answer in time.
        """
        self._answer = asyncio.get_running_loop().create_future()
        frame = b'[2,"%d","%b",%b]' % (next(self._numbers), action.encode(), payload)
        await self._connection.send(frame.decode())
        async with asyncio.timeout(wait):
            return await self._answer

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await self._connection.recv()
                try:
                    frame = decode_frame(message, self.version)
                except FrameError:
                    continue
                await self._take(frame)

    async def _take(self, frame: Frame) -> None:
        match frame:
            case CallFrame():
                await self._connection.send(encode_frame(await self._reply(frame)).decode())
            case CallResultFrame():
                self._settle(Answer(Kind.RESPONSE.value, bytes(frame.payload)))
            case CallErrorFrame():
                error = CallError(frame.error_code, frame.error_description, frame.error_details)
                self._settle(
                    Answer(
                        Kind.CALL_ERROR.value,
                        msgspec.json.encode(call_error_body(error, self.version)),
                    )
                )

    def _settle(self, answer: Answer) -> None:
        """Take `answer` for the one outstanding CALL, whatever its message id.

        A CALL that could not be read is answered without its id.
        """
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    async def _reply(self, call: CallFrame) -> Frame:
        if call.action != FEATURE_NAME:
            return call_error_frame(
                call.message_id, CallError(ErrorCode.NOT_SUPPORTED, call.action), self.version
            )
        try:
            request = decode_request(bytes(call.payload), self.version, strict=True).to_request()
            response = await self._firmware.on_data_transfer(request)
        except CallError as error:
            return call_error_frame(call.message_id, error, self.version)
        return CallResultFrame(call.message_id, encode_response(response, self.version))
