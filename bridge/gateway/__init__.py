"""A gateway's side of the wire contract: what one in Python needs of the bridge, and a small OCPP-J WebSocket gateway, the
reference for others.

link                          the bridge, in both directions; `turns`, `handlers` and `stations` go with it
actions, local_answers        what is answered without the bridge
conversation                  one connection as OCPP-J sees it: messages in, decisions out
connection                    the same, at work
handshake, passwords          who connects
server                        all of them; the only module that needs `websockets`
"""

from bridge.client.errors import NoAnswer, NotAccepted, StationOffline
from bridge.gateway.link import GatewayLink, LinkCounts
from bridge.gateway.station_handler import PayloadHandler, StationHandler
from bridge.request.outcome import Kind, Reply

__all__ = [
    "LinkCounts",
    "GatewayLink",
    "Kind",
    "NoAnswer",
    "NotAccepted",
    "PayloadHandler",
    "Reply",
    "StationHandler",
    "StationOffline",
]
