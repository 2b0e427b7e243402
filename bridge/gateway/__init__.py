"""What a station gateway needs: its link to the bridge, and what goes with it."""

from bridge.gateway.handlers import PayloadHandler, StationHandler
from bridge.gateway.link import Counts, GatewayLink
from bridge.outcome import Kind, Reply
from bridge.requester import NoAnswer, NotAccepted, StationOffline

__all__ = [
    "Counts",
    "GatewayLink",
    "Kind",
    "NoAnswer",
    "NotAccepted",
    "PayloadHandler",
    "Reply",
    "StationHandler",
    "StationOffline",
]
