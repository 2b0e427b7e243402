"""Each request is handled once: the stored reply is sent again, and the handler is not run again.

guard     stands before a dispatcher, and asks the store
store     the protocol of a store
memory    replies in this process
redis     replies that a fleet of workers shares (extra ``redis``)
postgres  a reply and the effect of its handler in one transaction (extra ``postgres``)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Begun, Key, Running, Store

if TYPE_CHECKING:
    from bridge.idempotency.postgres import Inbox, exactly_once
    from bridge.idempotency.redis import RedisStore

__all__ = [
    "Begun",
    "Inbox",
    "Key",
    "MemoryStore",
    "RedisStore",
    "Running",
    "Store",
    "exactly_once",
]

_ON_FIRST_USE: Final = {
    "Inbox": "bridge.idempotency.postgres",
    "RedisStore": "bridge.idempotency.redis",
    "exactly_once": "bridge.idempotency.postgres",
}
"""Where the names are that need an extra."""


def __getattr__(name: str) -> Any:
    """Import a name that needs an extra on its first use (PEP 562)."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_ON_FIRST_USE[name])
    except ModuleNotFoundError as error:
        extra = _ON_FIRST_USE[name].rpartition(".")[2]
        raise ModuleNotFoundError(
            f"{name} needs {error.name}, which is in an extra:"
            f" pip install 'datatransfer-bridge[{extra}]'",
            name=error.name,
        ) from None
    return getattr(module, name)
