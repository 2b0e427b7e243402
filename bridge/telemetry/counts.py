"""What a worker counts."""

import msgspec


class WorkerCounts(msgspec.Struct):
    """What a worker has done since it started."""

    received: int = 0
    """Deliveries."""
    replied: int = 0
    """Answers published: responses and CALLERRORs."""
    unasked: int = 0
    """Requests handled for which nobody waited (no ``reply_to``)."""
    failed: int = 0
    """Requests dead-lettered."""
    retried: int = 0
    """Further tries that handlers asked for."""
    overloaded: int = 0
    """Requests that were not begun, because no time was left for them. Each was answered with a
    CALLERROR and dead-lettered."""
    late: int = 0
    """Requests whose deadline passed while they were handled."""
    dropped: int = 0
    """Requests that were not handled, because their deadline had passed."""
    stuck: int = 0
    """Plain ``def`` handlers that were still at work when their time was over. Each keeps its
    thread until it returns."""
    absorbed: int = 0
    """Deliveries of a request that had been handled already: the stored reply was sent again."""
    store_errors: int = 0
    """Times that the idempotency store failed. The request was handled all the same."""
    forbidden: int = 0
    """Answers not sent, because ``reply_to`` named a queue that is not allowed."""
    foreign: int = 0
    """Messages that were not requests, dead-lettered. The native dialect knows none."""
    events_dropped: int = 0
    """Events that were not published, because that would have delayed something, or could not be
    done."""
    put_off: int = 0
    """Times that a request of a shared queue was sent round by a delay queue: its vendor had its
    share of that queue in hand."""
