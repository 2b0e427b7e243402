"""A gateway's side of the wire contract.

:class:`GatewayLink` is what a gateway in Python needs of the bridge, in both directions:

link                the link, and its requests of stations to the CSMS
intake, stations    the requests of the CSMS to stations, from the broker and to their handlers
station_handler     what such a handler is
turns               one request at a time for each station

:mod:`bridge.gateway.websocket` is a small OCPP-J WebSocket gateway, the reference for others.
"""

from bridge.client.errors import NoAnswer, NotAccepted, StationOffline
from bridge.gateway.intake import LinkCounts
from bridge.gateway.link import GatewayLink
from bridge.gateway.station_handler import PayloadHandler, StationHandler
from bridge.gateway.websocket.boot import Boot, BootAnswer, BootHook, RegistrationStatus
from bridge.request.outcome import Kind, Reply

__all__ = [
    "Boot",
    "BootAnswer",
    "BootHook",
    "GatewayLink",
    "Kind",
    "LinkCounts",
    "NoAnswer",
    "NotAccepted",
    "PayloadHandler",
    "RegistrationStatus",
    "Reply",
    "StationHandler",
    "StationOffline",
]
