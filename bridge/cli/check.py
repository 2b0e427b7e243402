"""``dtbridge check``: the handlers that there are."""

import sys

import rich.console
import rich.table

from bridge.cli.routers import Targets, routers_or_fail
from bridge.dialects.names import Names
from bridge.routing.catalogue import catalogue


def check(targets: Targets) -> None:
    """List the handlers with the types of their data. Needs no broker."""
    routers = routers_or_fail(targets)
    names = Names()
    table = rich.table.Table("vendor", "message", "data", "kind", "timeout", "handler", "queue")
    for vendor in catalogue(routers):
        queue = names.vendor_queue(vendor.vendor_id)
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
    console = rich.console.Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
