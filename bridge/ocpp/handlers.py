"""What the two ends of a connection implement to answer a DataTransfer. Both may be plain or async methods."""

from collections.abc import Awaitable
from typing import Protocol, runtime_checkable

from bridge.ocpp.data_transfer import DataTransferRequest, DataTransferResponse


@runtime_checkable
class CSMSHandler(Protocol):
    """The CSMS's side: charging stations send to it (OCPP 1.6 §4.3, OCPP 2.0.1 P02)."""

    def on_data_transfer(
        self, charging_station_id: str, request: DataTransferRequest
    ) -> DataTransferResponse | Awaitable[DataTransferResponse]:
        """Answer `request` of that station. May raise CallError to answer with a CALLERROR."""
        ...


@runtime_checkable
class ChargingStationHandler(Protocol):
    """The charging station's side: its CSMS sends to it (OCPP 1.6 §5.6, OCPP 2.0.1 P01)."""

    def on_data_transfer(
        self, request: DataTransferRequest
    ) -> DataTransferResponse | Awaitable[DataTransferResponse]:
        """Answer `request` of the CSMS. May raise CallError to answer with a CALLERROR."""
        ...
