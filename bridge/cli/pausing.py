"""``dtbridge pause``, ``resume`` and ``paused``: have workers leave a vendor's requests alone."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer
from yarl import URL

from bridge.cli.advice import with_advice
from bridge.cli.exits import EXIT_INTERRUPTED, EXIT_USAGE, fail
from bridge.cli.options import (
    LOCAL,
    NONE_GIVEN,
    AmqpUrl,
    LogLevelOption,
    ManagementUrl,
    Prefix,
    broker_urls,
    finite,
    management_hosts,
)
from bridge.cli.output import say
from bridge.cli.process import complete
from bridge.cli.tables import json_text, printable
from bridge.dialects.names import PREFIX, Names, vendor_key, vendor_of_key
from bridge.ocpp.data_transfer import VENDOR_ID_MAX_LENGTH
from bridge.rabbitmq.changing import Seen, open_changes
from bridge.rabbitmq.management import ManagementError, open_management, virtual_host
from bridge.rabbitmq.switching import Switch
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.transport import TopologyError, TransportError

CONNECTION: Final = "dtbridge pause"
"""In the broker's list of connections."""
CONNECT_WITHIN: Final = 5.0
"""Seconds for each of the broker's hosts: a person is waiting."""
OBEYED_WITHIN: Final = 5.0
"""Seconds for the workers. They take one, and a broker with many queues some more."""

Result = TypeVar("Result")

_VENDOR: Final = "vendorId; the case of letters does not count."
Timeout = Annotated[
    float,
    typer.Option(
        envvar="DTBRIDGE_TIMEOUT",
        min=0,
        callback=finite,
        help="Seconds to wait until workers have obeyed.",
    ),
]


def pause(
    vendor: Annotated[
        str, typer.Argument(envvar="DTBRIDGE_PAUSE_VENDOR", metavar="VENDOR", help=_VENDOR)
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force", envvar="DTBRIDGE_PAUSE_FORCE", help="Even if the vendor has no queue."
        ),
    ] = False,
    timeout: Timeout = OBEYED_WITHIN,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Have all workers leave a vendor's requests in their queue, until dtbridge resume.

    What they have begun runs to its end. It holds for workers that start later as well. Exit code
    1: it is not paused, or somebody still takes its requests.
    """
    key, queue = _names_of(vendor, prefix)

    async def work(switch: Switch) -> Seen | None:
        if not force and await switch.until_consumed(queue, consumed=True, seconds=0) is None:
            raise TopologyError(
                f"nobody handles {vendor!r}: there is no queue {queue!r} (--force pauses it all "
                "the same)"
            )
        await switch.pause(key)
        return await switch.until_consumed(queue, consumed=False, seconds=timeout)

    seen = _run(_switching(work, amqp_url, prefix, log_level), vendor)
    name = printable(vendor)
    if seen is None:
        say(f"{name} is paused. It has no queue {queue}.")
    elif seen.consumers:
        fail(
            f"{vendor!r} is paused, but after {timeout:g} s {_consumers(seen)} still its requests: "
            "the log of a worker that cannot obey says 'vendors cannot be paused', and why; one "
            "of an older version must be stopped"
        )
    else:
        say(f"{name} is paused: no worker takes its requests, and {_waiting(seen, queue)}.")


def resume(
    vendor: Annotated[
        str, typer.Argument(envvar="DTBRIDGE_RESUME_VENDOR", metavar="VENDOR", help=_VENDOR)
    ],
    timeout: Timeout = OBEYED_WITHIN,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Have workers take a vendor's requests again. Exit code 1: it is still paused."""
    key, queue = _names_of(vendor, prefix)

    async def work(switch: Switch) -> Seen | None:
        await switch.resume(key)
        return await switch.until_consumed(queue, consumed=True, seconds=timeout)

    seen = _run(_switching(work, amqp_url, prefix, log_level), vendor)
    name = printable(vendor)
    if seen is None:
        say(f"{name} is not paused. It has no queue {queue}.")
    elif seen.consumers:
        say(f"{name} is not paused: {_consumers(seen)} its requests, and {_waiting(seen, queue)}.")
    else:
        say(f"{name} is not paused. No worker takes its requests yet, and {_waiting(seen, queue)}.")


def paused(
    vendors: Annotated[
        list[str] | None,
        typer.Argument(
            envvar="DTBRIDGE_PAUSED_VENDORS",
            metavar="VENDOR…",
            help="Ask for these, without the management API.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", envvar="DTBRIDGE_JSON", help="Print JSON.")
    ] = False,
    amqp_url: AmqpUrl = LOCAL,
    management: ManagementUrl = NONE_GIVEN,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """List the vendors that are paused, and how many of their requests wait."""
    asked = {_names_of(vendor, prefix)[0]: vendor for vendor in vendors or ()}
    urls = broker_urls(amqp_url)
    hosts = management_hosts(management, urls)
    configure(LogFormat.AUTO, log_level)
    found = _run(_list(urls, hosts, Names(prefix), asked or None), "")
    if as_json:
        say(json_text(found, indent=2))
        return
    for each in found:
        waiting = "" if each.waiting is None else f": {each.waiting:,} requests wait"
        say(f"{printable(each.vendor)}{waiting}")
    if not found:
        say("None of them is paused." if asked else "No vendor is paused.")


class PausedVendor(msgspec.Struct, frozen=True):
    """A vendor that is paused."""

    vendor: str
    """In lower case, where the broker alone knows it."""
    queue: str
    waiting: int | None
    """Requests in its queue that nobody has in hand; None: there is no queue."""
    consumers: int | None
    """Who takes them all the same."""


def _names_of(vendor: str, prefix: str) -> tuple[str, str]:
    """The key that pauses a vendor, and its queue."""
    if not 0 < len(vendor) <= VENDOR_ID_MAX_LENGTH:
        fail(f"a vendorId has 1 to {VENDOR_ID_MAX_LENGTH} characters", EXIT_USAGE)
    return vendor_key(vendor), Names(prefix).vendor_queue(vendor)


def _consumers(seen: Seen) -> str:
    return "1 consumer takes" if seen.consumers == 1 else f"{seen.consumers} consumers take"


def _waiting(seen: Seen, queue: str) -> str:
    return f"{seen.ready:,} wait in {queue}"


async def _switching(
    work: Callable[[Switch], Awaitable[Seen | None]],
    amqp_url: Sequence[str],
    prefix: str,
    log_level: LogLevel,
) -> Seen | None:
    urls = broker_urls(amqp_url)
    configure(LogFormat.AUTO, log_level)
    async with open_changes(urls, CONNECTION, CONNECT_WITHIN) as changes:
        return await work(Switch(changes, Names(prefix)))


async def _list(
    urls: Sequence[URL], hosts: Sequence[URL], names: Names, asked: dict[str, str] | None
) -> list[PausedVendor]:
    if asked is None:
        try:
            api = await open_management(hosts)
            bound = await api.bindings_of_exchange(virtual_host(urls[0]), names.paused)
        except ManagementError as error:
            fail(
                f"without the management API the broker does not list them ({error}): name "
                "vendors, as in dtbridge paused VENDOR, or see dtbridge top"
            )
        asked = {each.routing_key: vendor_of_key(each.routing_key) for each in bound}
    async with open_changes(urls, CONNECTION, CONNECT_WITHIN) as changes:
        keys = await Switch(changes, names).are_paused(asked)
        found = []
        for key, vendor in sorted(asked.items()):
            if key in keys:
                queue = names.vendor_queue(vendor)
                seen = await changes.look(queue)
                waiting, consumers = (None, None) if seen is None else (seen.ready, seen.consumers)
                found.append(PausedVendor(vendor, queue, waiting, consumers))
        return found


def _run(main: Coroutine[Any, Any, Result], vendor: str) -> Result:
    try:
        return complete(main)
    except TransportError as error:
        fail(with_advice(error))
    except KeyboardInterrupt:
        told = f"; dtbridge paused {vendor} says whether it is paused" if vendor else ""
        fail(f"interrupted{told}", EXIT_INTERRUPTED)
