"""The CALLs between a gateway and its stations, counted by direction, action and outcome."""

from typing import Final

from bridge.gateway.websocket.actions import KNOWN_ACTIONS
from bridge.ocpp import FEATURE_NAME
from bridge.request.outcome import Kind, Reply
from bridge.telemetry.measures import Histogram

FROM_STATION: Final = "from_station"
TO_STATION: Final = "to_station"
OTHER: Final = "other"
"""The action of a CALL that no version of OCPP has, and of a frame that cannot be read."""

RESPONSE: Final = "response"
CALL_ERROR: Final = "call_error"
UNANSWERED: Final = "unanswered"
"""A station's DataTransfer that the bridge did not answer: the station got a CALLERROR. Or a CALL
that its station did not answer in time."""
OFFLINE: Final = "offline"
"""The station was gone before the answer."""

_ACTIONS: Final = frozenset().union(*KNOWN_ACTIONS.values())


def outcome_of(reply: Reply) -> str:
    """How a CALL is counted that has this answer."""
    return CALL_ERROR if reply.kind is Kind.CALL_ERROR else RESPONSE


class Traffic:
    """What has passed between a gateway and its stations."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str, str], int] = {}
        """CALLs that have ended, by direction, action and outcome."""
        self.forwarded = Histogram()
        """From a station's DataTransfer to the bridge's answer, in seconds."""
        self.called = Histogram()
        """From a CALL to a station to its answer, in seconds."""
        self.logins = 0
        """Passwords that fitted."""

    def count(self, direction: str, action: str, outcome: str) -> None:
        """Count a CALL. `action`: as the station spelled it."""
        key = direction, action if action in _ACTIONS else OTHER, outcome
        self.calls[key] = self.calls.get(key, 0) + 1

    def forward(self, outcome: str, seconds: float) -> None:
        """Count a station's DataTransfer that was passed to the bridge."""
        self.count(FROM_STATION, FEATURE_NAME, outcome)
        if outcome in {RESPONSE, CALL_ERROR}:
            self.forwarded.observe(seconds)

    def call(self, outcome: str, seconds: float) -> None:
        """Count a DataTransfer that a station was sent."""
        self.count(TO_STATION, FEATURE_NAME, outcome)
        if outcome in {RESPONSE, CALL_ERROR}:
            self.called.observe(seconds)
