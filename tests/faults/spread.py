"""The fault suite's vendor with partitions, in order or not: routers for `dtbridge run`.

Each request leaves a line in a journal when its handler begins and one when it ends: worker,
station, number. Lines of several workers do not mix (O_APPEND). `tests/faults/order.py` reads them.
"""

import asyncio
import os
from typing import Final

from bridge import Call, Router
from bridge.dialects.partitions import Partitions
from tests.faults.handlers import VENDOR, Numbered, Ran

JOURNAL: Final = "DTBRIDGE_TEST_JOURNAL"
"""The variable that names the file."""

_journal = os.open(
    os.environ.get(JOURNAL, os.devnull), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600
)


def _note(word: str, call: Call, data: Numbered) -> None:
    os.write(_journal, f"{word} {os.getpid()} {call.station_id} {data.number}\n".encode())


def _router(partitions: int, *, ordered: bool = False) -> Router:
    router = Router(VENDOR, partitions=partitions, ordered=ordered)

    @router.on("Echo")
    async def echo(call: Call, data: Numbered) -> Ran:
        _note("begins", call, data)
        _note("ends", call, data)
        return Ran(data.number)

    @router.on("Slow")
    async def slow(call: Call, data: Numbered) -> Ran:
        """Takes its time, so that something is in hand when the fault strikes."""
        _note("begins", call, data)
        await asyncio.sleep(0.05 + data.number % 7 * 0.05)
        _note("ends", call, data)
        return Ran(data.number)

    return router


plain_1, plain_2, plain_4 = map(_router, (1, 2, 4))
ordered_1, ordered_2, ordered_4 = (_router(count, ordered=True) for count in (1, 2, 4))


def target(spread: Partitions) -> str:
    """What `dtbridge` is to be given for the router with these partitions."""
    return f"{__name__}:{'ordered' if spread.ordered else 'plain'}_{spread.count}"
