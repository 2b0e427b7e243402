"""What a worker counts."""

import msgspec


class WorkerCounts(msgspec.Struct):
    """What a worker has done since it started."""

    received: int = 0
    """Deliveries."""
    replied: int = 0
    """Answers published: responses and CALLERRORs."""
    unasked: int = 0
    """Requests handled that nobody waited for (no ``reply_to``)."""
    failed: int = 0
    """Requests dead-lettered."""
    retried: int = 0
    """Further tries asked for by a handler."""
    overloaded: int = 0
    """Requests not begun, because there was no time left for them; answered with a CALLERROR, and dead-lettered."""
    late: int = 0
    """Requests handled whose deadline had passed by then."""
    dropped: int = 0
    """Requests whose deadline had passed before."""
    absorbed: int = 0
    """Deliveries of a request that was handled already: given the stored reply."""
    store_errors: int = 0
    """Times the idempotency store failed, and the request was handled all the same."""
    forbidden: int = 0
    """Answers not sent, because ``reply_to`` named a queue that is not allowed."""
    foreign: int = 0
    """Messages that were no requests, dead-lettered; only dialects know such."""
    put_off: int = 0
    """Times that a request was sent round by a delay queue, because its vendor had its share of a shared queue in hand."""
