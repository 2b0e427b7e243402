"""A gateway's side of the wire contract.

:class:`GatewayLink` is what a gateway in Python needs of the bridge, in both directions:

link                the link, and its requests of stations to the CSMS
intake, stations    the requests of the CSMS to stations, from the broker and to their handlers
station_handler     what such a handler is
turns               one request at a time for each station

:mod:`bridge.gateway.websocket` is a small OCPP-J WebSocket gateway, the reference for others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from bridge.client.errors import NoAnswer, NotAccepted, StationOffline
from bridge.gateway.counts import LinkCounts
from bridge.gateway.link import GatewayLink
from bridge.gateway.station_handler import PayloadHandler, StationHandler
from bridge.gateway.websocket.boot import Boot, BootAnswer, BootHook, RegistrationStatus
from bridge.request.outcome import Kind, Reply

if TYPE_CHECKING:
    from bridge.gateway.metrics import LinkCollector

__all__ = [
    "Boot",
    "BootAnswer",
    "BootHook",
    "GatewayLink",
    "Kind",
    "LinkCollector",
    "LinkCounts",
    "NoAnswer",
    "NotAccepted",
    "PayloadHandler",
    "RegistrationStatus",
    "Reply",
    "StationHandler",
    "StationOffline",
]

_ON_FIRST_USE: Final = {"LinkCollector": "bridge.gateway.metrics"}
"""Not every gateway has the metrics' library imported: it takes a tenth of a second."""


def __getattr__(name: str) -> Any:
    """Import a name on its first use (PEP 562)."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_ON_FIRST_USE[name]), name)
    return value
