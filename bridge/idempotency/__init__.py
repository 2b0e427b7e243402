"""Each request is handled once: the stored reply is sent again, and the handler is not run again.

guard     stands before a dispatcher, and asks the store
store     the protocol of a store
memory    replies in this process
redis     replies that a fleet of workers shares (extra ``redis``)
"""

from typing import TYPE_CHECKING, Any

from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Begun, Key, Running, Store

if TYPE_CHECKING:
    from bridge.idempotency.redis import RedisStore

__all__ = ["Begun", "Key", "MemoryStore", "RedisStore", "Running", "Store"]


def __getattr__(name: str) -> Any:
    """Import RedisStore on its first use (PEP 562): it needs an extra."""
    if name != "RedisStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bridge.idempotency.redis import RedisStore

    return RedisStore
