"""DataTransfer Bridge: OCPP DataTransfer from RabbitMQ to a typed handler, and its answer back.

All that a vendor's module, a client or a program with a worker of its own needs stands in this
package; the lists of names in ``bridge.ocpp``, ``bridge.gateway``, ``bridge.dialects``,
``bridge.idempotency``, ``bridge.testing`` and ``bridge.vendors`` are public as well. Everything
else may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import bridge.compiled.switch  # noqa: F401 - isort: split - before any module that may be compiled
from bridge.ocpp import (
    CallError,
    ChargingStationHandler,
    CSMSHandler,
    DataTransferRequest,
    DataTransferResponse,
    DataTransferStatus,
    ErrorCode,
    OcppVersion,
    StatusInfo,
)
from bridge.request.incoming import Call, current_call
from bridge.request.outcome import Rejected, Retry
from bridge.request.retry import RetryPolicy
from bridge.routing.data import Lenient
from bridge.routing.errors import HandlerError, LifespanError
from bridge.routing.middleware import CallNext
from bridge.routing.router import Router
from bridge.routing.station_message import StationMessage
from bridge.transport import BrokerUnreachable, TopologyError, TransportError

if TYPE_CHECKING:
    from bridge.client.client import Client
    from bridge.client.errors import NoAnswer, NotAccepted, StationOffline, UnexpectedAnswer
    from bridge.client.metrics import ClientCollector
    from bridge.client.typed import TypedResponse
    from bridge.embedding import make_worker
    from bridge.telemetry.metrics import BuildCollector
    from bridge.worker.metrics import WorkerCollector
    from bridge.worker.worker import Settings, Worker

__all__ = [
    "BrokerUnreachable",
    "BuildCollector",
    "CSMSHandler",
    "Call",
    "CallError",
    "CallNext",
    "ChargingStationHandler",
    "Client",
    "ClientCollector",
    "DataTransferRequest",
    "DataTransferResponse",
    "DataTransferStatus",
    "ErrorCode",
    "HandlerError",
    "Lenient",
    "LifespanError",
    "NoAnswer",
    "NotAccepted",
    "OcppVersion",
    "Rejected",
    "Retry",
    "RetryPolicy",
    "Router",
    "Settings",
    "StationMessage",
    "StationOffline",
    "StatusInfo",
    "TopologyError",
    "TransportError",
    "TypedResponse",
    "UnexpectedAnswer",
    "Worker",
    "WorkerCollector",
    "current_call",
    "make_worker",
]

_ON_FIRST_USE: Final = {
    "BuildCollector": "bridge.telemetry.metrics",
    "Client": "bridge.client.client",
    "ClientCollector": "bridge.client.metrics",
    "NoAnswer": "bridge.client.errors",
    "NotAccepted": "bridge.client.errors",
    "Settings": "bridge.worker.worker",
    "StationOffline": "bridge.client.errors",
    "TypedResponse": "bridge.client.typed",
    "UnexpectedAnswer": "bridge.client.errors",
    "Worker": "bridge.worker.worker",
    "WorkerCollector": "bridge.worker.metrics",
    "make_worker": "bridge.embedding",
}
"""Where the names are that a module of handlers does without: some bring the AMQP libraries, or
that of the metrics."""


def __getattr__(name: str) -> Any:
    """Import a name on its first use (PEP 562)."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_ON_FIRST_USE[name]), name)
    return value
