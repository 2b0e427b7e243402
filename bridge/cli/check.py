"""``dtbridge check``: the handlers that there are."""

import sys

import rich.console
import rich.table

from bridge.cli.routers import Targets, routers_or_fail
from bridge.dialects.names import Names
from bridge.telemetry.logs import LogFormat, LogLevel, configuring


def check(targets: Targets) -> None:
    """List the handlers with the types of their data. Needs no broker."""
    with configuring(LogFormat.AUTO, LogLevel.WARNING):
        routers = routers_or_fail(targets)
    names = Names()
    table = rich.table.Table("vendor", "message", "data", "kind", "timeout", "handler", "queue")
    for router in routers:
        for message, handler in router.handlers():
            kind = "async" if handler.is_async else "thread"
            queue = names.vendor_queue(router.vendor_id)
            table.add_row(
                router.vendor_id,
                message,
                handler.type_name,
                kind,
                f"{handler.timeout:g} s",
                handler.name,
                queue,
            )
        if not any(router.handlers()):
            table.add_row(
                router.vendor_id,
                "(no handlers)",
                "",
                "",
                "",
                "",
                names.vendor_queue(router.vendor_id),
            )
    console = rich.console.Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
