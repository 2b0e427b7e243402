"""``dtbridge check``: the handlers that there are."""

import rich.table

from bridge.cli.routers import Targets, routers_or_fail
from bridge.cli.tables import print_table
from bridge.dialects.names import Names
from bridge.telemetry.logs import LogFormat, LogLevel, configuring


def check(targets: Targets) -> None:
    """List the handlers with the types of their data. Needs no broker."""
    with configuring(LogFormat.AUTO, LogLevel.WARNING):
        routers = routers_or_fail(targets)
    names = Names()
    table = rich.table.Table("vendor", "message", "data", "kind", "timeout", "handler", "queue")
    for router in routers:
        vendor, queue = router.vendor_id, names.vendor_queue(router.vendor_id)
        handlers = list(router.handlers())
        for message, handler in handlers:
            kind = "async" if handler.is_async else "thread"
            timeout = f"{handler.timeout:g} s"
            table.add_row(vendor, message, handler.type_name, kind, timeout, handler.name, queue)
        if not handlers:
            table.add_row(vendor, "(no handlers)", "", "", "", "", queue)
    print_table(table)
