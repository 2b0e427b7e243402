"""``dtbridge check``: the handlers that there are."""

import rich.table

from bridge.cli.routers import Targets, routers_or_fail
from bridge.cli.tables import print_table
from bridge.dialects.names import Names
from bridge.dialects.partitions import partitions_of
from bridge.routing.catalogue import catalogue
from bridge.telemetry.logs import LogFormat, LogLevel, configuring


def check(targets: Targets) -> None:
    """List the handlers with the types of their data. Needs no broker."""
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
                handled.kind,
                f"{handled.timeout:g} s",
                handled.handler,
                queue,
            )
        if not vendor.messages:
            table.add_row(vendor.vendor_id, "(no handlers)", "", "", "", "", queue)
    print_table(table)
