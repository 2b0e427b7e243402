"""What a command says when it starts, through the log: which program, what it does, and where."""

import platform
from collections.abc import Sequence
from typing import Final

from yarl import URL

from bridge.cli.version import is_compiled, version
from bridge.dialects.dialect import Dialect
from bridge.dialects.partitions import partitions_of
from bridge.rabbitmq.urls import printable
from bridge.routing.catalogue import HandledVendor, catalogue
from bridge.routing.router import Router
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.cli")

VENDORS: Final = 20
"""Vendors that have a line each."""
MESSAGES: Final = 10
"""Messages that are named in such a line."""


def announce_worker(
    routers: Sequence[Router],
    dialect: Dialect,
    urls: Sequence[URL],
    *,
    processes: int,
    http: str | None,
    config: str | None,
) -> None:
    """Say what a worker will consume. Beyond so many vendors, only how many more there are."""
    vendors = catalogue(routers)
    log.info(
        "starting",
        **_program(),
        brokers=[printable(url) for url in urls],
        dialect=dialect.name,
        vendors=len(vendors),
        **_unless_none(queues=[each.name for each in dialect.queues] or None),
        **_unless_none(processes=processes if processes > 1 else None, http=http, config=config),
    )
    partitions = partitions_of(routers)
    for vendor in vendors[:VENDORS]:
        spread = partitions.get(vendor.vendor_id)
        queue = None if dialect.queues else dialect.names.vendor_queue(vendor.vendor_id)
        where = _unless_none(queue=queue, partitions=None if spread is None else spread.count)
        log.info("handles", **_handled(vendor), **where)
    if len(vendors) > VENDORS:
        log.info("handles more", vendors=len(vendors) - VENDORS, hint="dtbridge check lists all")


def announce_gateway(
    urls: Sequence[URL], *, processes: int, http: str | None, config: str | None
) -> None:
    """Say where a gateway goes with what it gets. Where it listens is said when it does."""
    log.info(
        "starting",
        **_program(),
        brokers=[printable(url) for url in urls],
        **_unless_none(processes=processes if processes > 1 else None, http=http, config=config),
    )


def _program() -> dict[str, object]:
    return {
        "version": version(),
        "compiled": is_compiled(),
        "python": platform.python_version(),
    }


def _handled(vendor: HandledVendor) -> dict[str, object]:
    messages = [each.message for each in vendor.messages]
    more = len(messages) - MESSAGES
    return {
        "vendor": vendor.vendor_id,
        "messages": messages[:MESSAGES],
        **_unless_none(more=more if more > 0 else None),
    }


def _unless_none(**pairs: object) -> dict[str, object]:
    return {key: value for key, value in pairs.items() if value is not None}
