"""``dtbridge check``: the handlers that there are."""

import rich.table

from bridge.cli.options import words
from bridge.cli.output import say
from bridge.cli.packs import check_packs
from bridge.cli.routers import Targets, routers_or_fail
from bridge.cli.tables import print_table
from bridge.dialects.names import Names
from bridge.dialects.partitions import partitions_of
from bridge.routing.catalogue import HandledMessage, catalogue
from bridge.telemetry.lines import escaped
from bridge.telemetry.logs import LogFormat, LogLevel, configuring


def check(targets: Targets) -> None:
    """List the handlers with the types of their data. Needs no broker.

    ``bridge.vendors`` in place of MODULE:NAME lists the vendor packs that there are.
    """
    targets = check_packs(words(targets))
    if not targets:
        return
    with configuring(LogFormat.AUTO, LogLevel.WARNING):
        routers = routers_or_fail(targets)
    names = Names()
    table = rich.table.Table("vendor", "message", "data", "kind", "timeout", "handler", "queue")
    partitions = partitions_of(routers)
    for vendor in catalogue(routers):
        queue = names.vendor_queue(vendor.vendor_id)
        if (spread := partitions.get(vendor.vendor_id)) is not None:
            order = ", in order" if spread.ordered else ""
            queue += f" ({spread.count} partitions{order})"
        for handled in vendor.messages:
            table.add_row(
                vendor.vendor_id,
                handled.message,
                handled.data,
                _kind(handled, vendor.threads),
                f"{handled.timeout:g} s",
                handled.handler,
                queue,
            )
        if not vendor.messages:
            table.add_row(vendor.vendor_id, "(no handlers)", "", "", "", "", queue)
    print_table(table)
    for vendor in catalogue(routers):
        for what, names_of in (("lifespans", vendor.lifespans), ("middleware", vendor.middleware)):
            if names_of:
                say(escaped(f"{vendor.vendor_id}: {what} {', '.join(names_of)}"))


def _kind(handled: HandledMessage, threads: int) -> str:
    """Where a handler runs, and beside how many others."""
    return f"{threads} threads" if handled.kind == "thread" else handled.kind
