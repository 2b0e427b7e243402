"""What the two ends of a connection implement to answer a DataTransfer.

In both protocols the method may be a plain or an async one.
"""

from collections.abc import Awaitable
from typing import Protocol, runtime_checkable

from bridge.ocpp.data_transfer import DataTransferRequest, DataTransferResponse


@runtime_checkable
class CSMSHandler(Protocol):
    """The CSMS's side: it answers charging stations (OCPP 1.6 §4.3, OCPP 2.0.1 P02)."""

    def on_data_transfer(
        self, charging_station_id: str, request: DataTransferRequest
    ) -> DataTransferResponse | Awaitable[DataTransferResponse]:
        """Answer `request`, which comes from the station `charging_station_id`.

        May raise CallError, to answer with a CALLERROR.
        """
        ...


@runtime_checkable
class ChargingStationHandler(Protocol):
    """The charging station's side: it answers its CSMS (OCPP 1.6 §5.6, OCPP 2.0.1 P01)."""

    def on_data_transfer(
        self, request: DataTransferRequest
    ) -> DataTransferResponse | Awaitable[DataTransferResponse]:
        """Answer `request`, which comes from the CSMS.

        May raise CallError, to answer with a CALLERROR.
        """
        ...
