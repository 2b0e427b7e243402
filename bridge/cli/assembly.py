"""From options to the parts of a program."""

import enum
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.dialects import citrineos, web_ocpp
from bridge.dialects.citrineos import CitrineOs
from bridge.dialects.dialect import Dialect
from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.web_ocpp import WebOcpp
from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Store


def check_store(location: str) -> None:
    """Raises ValueError with a sentence for a location that :func:`open_store` could not open."""
    if location in {"memory", "none"}:
        return
    if not location.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError(f"--idempotency is memory, none or redis://HOST:PORT/DB, not {location!r}")
    if importlib.util.find_spec("redis") is None:
        raise ValueError(
            "--idempotency with Redis needs the extra: pip install 'datatransfer-bridge[redis]'"
        )


@asynccontextmanager
async def open_store(location: str) -> AsyncIterator[Store | None]:
    """The store that ``memory``, ``none`` or a Redis URL names, for as long as the block lasts."""
    check_store(location)
    if location == "none":
        yield None
    elif location == "memory":
        yield MemoryStore()
    else:
        from bridge.idempotency.redis import RedisStore  # noqa: PLC0415 - an extra

        async with RedisStore(location) as store:
            yield store


class DialectName(enum.StrEnum):
    """What a gateway speaks."""

    NATIVE = "native"
    """The wire contract of this project."""
    WEB_OCPP = web_ocpp.NAME
    CITRINEOS = citrineos.NAME


def open_dialect(
    name: DialectName,
    prefix: str = "datatransfer",
    *,
    exchange: str | None = None,
    patience: float | None = None,
    reply_prefixes: tuple[str, ...] = (),
) -> Dialect:
    """The dialect of that name. `exchange`, `patience` (seconds): in place of the gateway's defaults.

    Raises ValueError with a sentence for what the dialect does not have.
    """
    if name is DialectName.NATIVE:
        if exchange is not None or patience is not None:
            raise ValueError(
                "--gateway-exchange and --answer-within are for the dialects web-ocpp and citrineos"
            )
        return Native(Names(prefix), reply_prefixes)
    if reply_prefixes:
        raise ValueError(
            f"--reply-prefix is for the native dialect: the answers of {name} go to the gateway's exchange"
        )
    made = WebOcpp if name is DialectName.WEB_OCPP else CitrineOs
    module = web_ocpp if name is DialectName.WEB_OCPP else citrineos
    return made(
        prefix,
        module.EXCHANGE if exchange is None else exchange,
        module.PATIENCE if patience is None else patience,
    )
