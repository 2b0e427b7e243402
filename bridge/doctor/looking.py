"""Looks at a worker's surroundings: what the checks are given."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from yarl import URL

from bridge.dialects.dialect import Dialect
from bridge.dialects.names import vendor_key
from bridge.dialects.topology import Mode, Purpose, QueueType, Topology, worker_topology
from bridge.doctor import (
    arguments,
    broker,
    certificates,
    machine,
    partitions,
    pauses,
    queues,
    store,
    topology,
)
from bridge.doctor.certificates import see_certificates
from bridge.doctor.facts import Certificate, ManagementSeen, StoreSeen, Surroundings, Vendors
from bridge.doctor.findings import Check
from bridge.doctor.machine import see_machine
from bridge.doctor.store import see_store
from bridge.rabbitmq.management import (
    LiveQueue,
    Management,
    ManagementError,
    open_management,
    virtual_host,
)
from bridge.rabbitmq.probing import BrokerSeen, look
from bridge.rabbitmq.urls import HEARTBEAT
from bridge.transport import TransportError

CHECKS: Final[tuple[Check[Surroundings], ...]] = (
    *broker.CHECKS,
    *arguments.CHECKS,
    *topology.CHECKS,
    *partitions.CHECKS,
    *queues.CHECKS,
    *pauses.CHECKS,
    *certificates.CHECKS,
    *store.CHECKS,
    *machine.CHECKS,
)
"""All checks, in the order in which their findings are told."""

EVENTS: Final = ".events"
"""How the names of exchanges end that events are published to."""
EACH_QUEUE: Final = 50
"""Queues that are asked for one by one, where their names do not begin with the prefix."""


async def look_around(
    urls: Sequence[URL],
    management_urls: Sequence[URL],
    *,
    dialect: Dialect,
    vendors: Vendors | None,
    mode: Mode,
    queue_type: QueueType,
    redis_url: str | None,
    store_kind: Literal["memory", "none", "redis"],
    connect_timeout: float,
) -> Surroundings:
    """Look at everything, each thing bounded in time. What cannot be known is said as such."""
    names = dialect.names
    named = list(vendors.handlers) if vendors else []
    plan = worker_topology(
        dialect,
        named,
        mode,
        queue_type,
        partitions=vendors.partitions if vendors else None,
    )
    (seen, error), (management, management_error), found, kept = await asyncio.gather(
        _look(urls, plan, list(map(vendor_key, named)), connect_timeout),
        _ask(management_urls, urls, names.prefix, [queue.name for queue in plan.queues]),
        _certificates(urls),
        _store(redis_url),
    )
    shared = dialect.exchange is not None
    return Surroundings(
        plan=plan,
        mode=mode,
        queue_type=queue_type,
        prefix=names.prefix,
        unknown_vendor="" if shared else names.unknown_vendor,
        dead=next((queue.name for queue in plan.queues if queue.purpose is Purpose.DEAD), ""),
        heartbeat=int(urls[0].query.get("heartbeat", HEARTBEAT)),
        verified=all(url.query.get("no_verify_ssl", "0") != "1" for url in urls),
        machine=see_machine(),
        vendors=vendors,
        broker=seen,
        paused={
            each: names.vendor_queue(each) for each in named if vendor_key(each) in seen.paused
        },
        broker_error=error,
        management=management,
        management_error=management_error,
        certificates=tuple(found),
        store=kept,
        store_kind=store_kind,
    )


async def _look(
    urls: Sequence[URL], plan: Topology, pause_keys: Sequence[str], connect_timeout: float
) -> tuple[BrokerSeen, str]:
    try:
        return await look(urls, plan, "dtbridge doctor", connect_timeout, pause_keys), ""
    except TransportError as error:
        return BrokerSeen(()), str(error)


async def _ask(
    management_urls: Sequence[URL], urls: Sequence[URL], prefix: str, planned: Sequence[str]
) -> tuple[ManagementSeen | None, str]:
    vhost = virtual_host(urls[0])
    try:
        management = await open_management(management_urls)
        overview = await management.overview()
        queues: dict[str, LiveQueue] = {
            queue.name: queue for queue in await management.queues(vhost, prefix)
        }
        for name in [name for name in planned if name not in queues][:EACH_QUEUE]:
            if (queue := await management.queue(vhost, name)) is not None:
                queues[name] = queue
        unheard = await _unheard(management, vhost)
    except ManagementError as error:
        return None, str(error)
    try:
        nodes = tuple(await management.nodes())
    except ManagementError:  # the tag management alone does not see them
        return ManagementSeen(management.url, overview, None, queues, unheard), ""
    return ManagementSeen(management.url, overview, nodes, queues, unheard), ""


async def _unheard(management: Management, vhost: str) -> int:
    """Events that no listener took, of all bridges of this virtual host."""
    return sum(
        max(0, exchange.message_stats.publish_in - exchange.message_stats.publish_out)
        for exchange in await management.exchanges(vhost)
        if exchange.type == "topic" and exchange.name.endswith(EVENTS)
    )


async def _certificates(urls: Sequence[URL]) -> list[Certificate]:
    now = datetime.now(UTC)
    found = await asyncio.gather(*(asyncio.to_thread(see_certificates, url, now) for url in urls))
    return list({each.what: each for several in found for each in several}.values())


async def _store(redis_url: str | None) -> StoreSeen | None:
    return None if redis_url is None else await see_store(redis_url)
