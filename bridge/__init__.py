"""DataTransfer Bridge: OCPP DataTransfer from RabbitMQ to a typed handler, and its typed answer back."""

from typing import TYPE_CHECKING, Any

import bridge.compiled.switch  # noqa: F401 - isort: split - before any module that may be compiled
from bridge.ocpp import (
    CallError,
    ChargingStationHandler,
    CSMSHandler,
    DataTransferRequest,
    DataTransferResponse,
    DataTransferStatus,
    StatusInfo,
)
from bridge.request.incoming import Call
from bridge.request.outcome import Rejected, Retry
from bridge.routing.router import Router

if TYPE_CHECKING:
    from bridge.client.client import Client

__all__ = [
    "CSMSHandler",
    "Call",
    "CallError",
    "ChargingStationHandler",
    "Client",
    "DataTransferRequest",
    "DataTransferResponse",
    "DataTransferStatus",
    "Rejected",
    "Retry",
    "Router",
    "StatusInfo",
]


def __getattr__(name: str) -> Any:
    """Client brings the AMQP libraries with it; routers and handlers do without them."""
    if name == "Client":
        from bridge.client.client import Client  # noqa: PLC0415 - on first use, see above

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
