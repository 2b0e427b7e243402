"""Migrates one vendor's queue, and kills itself at a step, as the kernel would: SIGKILL.

Run as `python -m tests.integration.killed_migration URL MANAGEMENT_URL QUEUE_TYPE VENDOR STEP`. The
step is one of `bridge.rabbitmq.migrating.STEPS`, or `-`.
"""

import asyncio
import os
import signal
import sys

from yarl import URL

from bridge.dialects.native import Native
from bridge.dialects.topology import QueueType, worker_topology
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.management import Management, virtual_host
from bridge.rabbitmq.migrating import Migration, Outcome
from bridge.rabbitmq.urls import parse_urls


async def migrate(
    url: str, management_url: str, queue_type: str, vendor_id: str, last: str = "-"
) -> Outcome:
    def on_step(step: str, _queue: str, _moved: int) -> None:
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    dialect = Native()
    topology = worker_topology(dialect, [vendor_id], queue_type=QueueType(queue_type))
    [queue] = [
        each for each in topology.queues if each.name == dialect.names.vendor_queue(vendor_id)
    ]
    urls = parse_urls([url])
    async with open_changes(urls, "migration") as changes:
        migration = Migration(
            changes,
            Management(URL(management_url)),
            virtual_host(urls[0]),
            prefix=dialect.names.prefix,
            name="migration",
            on_step=on_step,
        )
        return await migration.run([queue])


if __name__ == "__main__":
    asyncio.run(migrate(*sys.argv[1:]))
