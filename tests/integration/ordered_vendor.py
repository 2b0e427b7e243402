"""Writes down what it handles. Run as `dtbridge run tests.integration.ordered_vendor:four`.

The file that the variable ORDERED_VENDOR_FILE names gets a line for each request when its handling
begins and one when it ends: worker, station, number. Lines of several processes do not mix
(O_APPEND).
"""

import asyncio
import os

from bridge import Call, Router

FILE = os.environ.get("ORDERED_VENDOR_FILE", os.devnull)


def _router(partitions: int) -> Router:
    router = Router("v", partitions=partitions, ordered=True)

    @router.default
    async def answer(call: Call, data: int) -> int:
        file = os.open(FILE, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.write(file, f"begins {os.getpid()} {call.station_id} {data}\n".encode())
            await asyncio.sleep(0.003)
            os.write(file, f"ends {os.getpid()} {call.station_id} {data}\n".encode())
        finally:
            os.close(file)
        return data

    return router


one, two, four = _router(1), _router(2), _router(4)
