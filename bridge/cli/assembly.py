"""From options to the parts of a program. Only this module knows all of them.

What it refuses, it refuses with a ValueError whose sentence names the options, for the command to
print.
"""

import contextlib
import enum
import importlib.util
import re
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from yarl import URL

from bridge.client.client import Client
from bridge.dead_letters.queue import open_dead_queue
from bridge.dialects import citrineos, web_ocpp
from bridge.dialects.citrineos import CitrineOs
from bridge.dialects.dialect import Dialect
from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.partitions import partitions_of, why_not_in
from bridge.dialects.topology import Mode, QueueType, Topology, gateway_topology, worker_topology
from bridge.dialects.web_ocpp import WebOcpp
from bridge.gateway.link import GatewayLink
from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Store
from bridge.rabbitmq.browser import Browser
from bridge.rabbitmq.hosts import FROM_FILE, read_secret
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import HostOrder, without_secrets
from bridge.routing.router import Router
from bridge.telemetry.events import EventMode
from bridge.worker.worker import Settings, Worker

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

# ---- the store of replies ----

IN_MEMORY: Final = "memory"
NOWHERE: Final = "none"
_REDIS: Final = ("redis://", "rediss://", "unix://")
_POSTGRES: Final = ("postgres://", "postgresql://")


def check_store(location: str) -> None:
    """Raises ValueError for a location that :func:`open_store` could not open."""
    _store_url(location)


def _store_url(location: str) -> str:
    """Checked; what a file holds, if `location` is ``@FILE``."""
    url = _from_file(location)
    if url is not location and url not in {IN_MEMORY, NOWHERE} and not url.startswith(_REDIS):
        # It is not quoted: it is secret.
        raise ValueError(
            f"the file {location[1:]} does not say where the store of replies is: "
            "expected redis://HOST:PORT/DB"
        )
    _check_location(url)
    return url


def _from_file(location: str) -> str:
    if not location.startswith(FROM_FILE):
        return location
    try:
        return read_secret(location[len(FROM_FILE) :])
    except ValueError as error:
        raise ValueError(
            f"the URL of the store cannot be read from the file {location[1:]}: {error}"
        ) from None


def _check_location(location: str) -> None:
    if location in {IN_MEMORY, NOWHERE}:
        return
    if location.startswith(_POSTGRES):
        raise ValueError(
            "--idempotency keeps no replies in PostgreSQL: there the middleware exactly_once keeps"
            " them, in the transactions of the handlers (docs/exactly-once.md)"
        )
    if not location.startswith(_REDIS):
        raise ValueError(
            "--idempotency is memory, none or redis://HOST:PORT/DB, not "
            + without_secrets(repr(location))
        )
    if not _is_url(location):  # it is not quoted: nobody can tell where its password is
        raise ValueError(
            "the URL of --idempotency has a / ? # or [ in its user or password, or its port is no "
            "number: write such characters percent-encoded, as %23 for #"
        )
    if importlib.util.find_spec("redis") is None:
        raise ValueError(
            "--idempotency with Redis needs the extra: pip install 'datatransfer-bridge[redis]'"
        )


def _is_url(location: str) -> bool:
    rest = location.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :] or "#" in rest:
        return False
    with contextlib.suppress(ValueError):
        return location.startswith("unix:") or urllib.parse.urlsplit(location).port != 0
    return False


@asynccontextmanager
async def open_store(location: str) -> AsyncIterator[Store | None]:
    """The store at `location`: ``memory``, ``none`` (no store) or the URL of a Redis.

    ``@FILE`` stands for what a file holds. It is read again at each connection to a Redis.
    """
    url = _store_url(location)
    if url == NOWHERE:
        yield None
    elif url == IN_MEMORY:
        yield MemoryStore()
    else:
        from bridge.idempotency.redis import RedisStore

        again = partial(_store_url, location) if location.startswith(FROM_FILE) else None
        async with RedisStore(url, url_again=again) as store:
            yield store


# ---- the dialect ----


class DialectName(enum.StrEnum):
    """What a gateway speaks."""

    NATIVE = "native"
    """The wire contract of this project."""
    WEB_OCPP = web_ocpp.NAME
    CITRINEOS = citrineos.NAME


def make_dialect(
    name: DialectName,
    prefix: str,
    *,
    exchange: str | None = None,
    patience: float | None = None,
    reply_prefixes: tuple[str, ...] = (),
) -> Dialect:
    """The dialect of that name.

    `exchange` is the gateway's, and `patience` the seconds that it waits for an answer; None: as is
    usual for that gateway. Raises ValueError for an option that the dialect does not have.
    """
    if name is DialectName.NATIVE:
        if exchange is not None or patience is not None:
            raise ValueError(
                "--gateway-exchange and --answer-within are for the dialects web-ocpp and citrineos"
            )
        return Native(Names(prefix), reply_prefixes)
    if reply_prefixes:
        raise ValueError(
            "--reply-prefix is for the native dialect: "
            f"the answers of {name} go to the gateway's exchange"
        )
    made = WebOcpp if name is DialectName.WEB_OCPP else CitrineOs
    module = web_ocpp if name is DialectName.WEB_OCPP else citrineos
    return made(
        prefix,
        module.EXCHANGE if exchange is None else exchange,
        module.PATIENCE if patience is None else patience,
    )


# ---- the topology ----


def make_topology(
    routers: Sequence[Router],
    dialect: Dialect,
    queue_type: QueueType,
    mode: Mode = Mode.DECLARE,
    *,
    events: bool = False,
) -> Topology:
    """What workers with these routers need. `events`: whether they publish events.

    Raises ValueError for partitions in a dialect that has none.
    """
    vendor_ids = [router.vendor_id for router in routers]
    partitions = partitions_of(routers)
    if partitions and dialect.queues:
        raise ValueError(why_not_in(dialect.name, partitions))
    return worker_topology(
        dialect, vendor_ids, mode, queue_type, events=events, partitions=partitions
    )


def names_of_others(dialect: Dialect) -> frozenset[str]:
    """The names of what gateways and workers of other dialects need, with the same prefix."""
    prefix = dialect.names.prefix
    others = [make_dialect(name, prefix) for name in DialectName if name != dialect.name]
    topologies = [gateway_topology(Names(prefix)), *map(worker_topology, others)]
    exchanges = {each.name for topology in topologies for each in topology.exchanges}
    exchanges.add(dialect.names.events)  # of workers with --events
    queues = {each.name for topology in topologies for each in topology.queues}
    return frozenset(exchanges | queues)


# ---- a worker, who listens to it, a gateway's link, a client, the dead letters ----


@asynccontextmanager
async def open_worker(
    routers: Sequence[Router],
    urls: Sequence[URL],
    *,
    dialect: Dialect,
    settings: Settings,
    store: str,
    mode: Mode,
    queue_type: QueueType,
    start_timeout: float,
    host_order: HostOrder = HostOrder.RANDOM,
    name: str,
    tracer_provider: "TracerProvider | None" = None,
) -> AsyncIterator[Worker]:
    """A worker that has yet to be run, with its store open.

    `store` is a location as :func:`open_store` takes it; `start_timeout`: seconds to find a broker.
    """
    topology = make_topology(
        routers, dialect, queue_type, mode, events=settings.events is not EventMode.NONE
    )
    transport = RabbitTransport(
        urls, name=name, topology=topology, start_timeout=start_timeout, host_order=host_order
    )
    async with open_store(store) as kept:
        yield Worker(
            routers,
            transport,
            dialect=dialect,
            settings=settings,
            store=kept,
            name=name,
            tracer_provider=tracer_provider,
        )


def make_listener(
    urls: Sequence[URL], *, start_timeout: float, host_order: HostOrder, name: str
) -> RabbitTransport:
    """A transport for whoever listens to what others publish. `start_timeout`: as above."""
    return RabbitTransport(urls, name=name, start_timeout=start_timeout, host_order=host_order)


def make_gateway_link(
    urls: Sequence[URL],
    *,
    prefix: str,
    mode: Mode,
    start_timeout: float,
    host_order: HostOrder = HostOrder.RANDOM,
    name: str,
    tracer_provider: "TracerProvider | None" = None,
) -> GatewayLink:
    """The bridge, for a gateway. `start_timeout`: seconds to find a broker."""
    names = Names(prefix)
    topology = gateway_topology(names, mode)
    transport = RabbitTransport(
        urls, name=name, topology=topology, start_timeout=start_timeout, host_order=host_order
    )
    return GatewayLink(dialect=Native(names), transport=transport, tracer_provider=tracer_provider)


def make_client(
    urls: Sequence[URL],
    *,
    prefix: str,
    start_timeout: float,
    name: str,
    tracer_provider: "TracerProvider | None" = None,
) -> Client:
    """A client of workers and gateways. `start_timeout`: seconds to find a broker."""
    transport = RabbitTransport(
        urls, name=name, start_timeout=start_timeout, host_order=HostOrder.GIVEN
    )
    return Client(
        dialect=Native(Names(prefix)), transport=transport, tracer_provider=tracer_provider
    )


def open_dead_letters(urls: Sequence[URL], *, prefix: str) -> AbstractAsyncContextManager[Browser]:
    """The queue of dead letters."""
    return open_dead_queue(urls, Names(prefix).dead)
