"""What a link counts."""

import msgspec


class LinkCounts(msgspec.Struct):
    """What a link has done since it was made, CSMS → station.

    Each request is counted once, when it has ended, as answered, offline or late.
    """

    received: int = 0
    """Requests of the CSMS."""
    answered: int = 0
    """Answers given: responses and CALLERRORs, the gateway's own among them."""
    failed: int = 0
    """Requests whose handler failed, or that found too many others before them; answered with a
    CALLERROR."""
    offline: int = 0
    """Requests for a station that was not there, or was lost meanwhile."""
    late: int = 0
    """Requests whose time was over: before they came, before their turn, or before their station
    answered."""
    absorbed: int = 0
    """Requests that came again, and were given the answer of the first time."""
    forbidden: int = 0
    """Answers not sent, because ``reply_to`` named a queue that is not allowed."""
    unroutable: int = 0
    """Answers whose queue was gone, or went on refusing them."""
