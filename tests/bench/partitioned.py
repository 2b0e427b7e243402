"""The vendor of `tests.bench.partitions`, spread as BENCH_PARTITIONS and BENCH_ORDERED say."""

import os
from typing import Any

from bridge import Call, Router

router = Router(
    "bench",
    partitions=int(os.environ.get("BENCH_PARTITIONS", "1")),
    ordered=os.environ.get("BENCH_ORDERED") == "1",
)


@router.default
async def answer(call: Call, data: dict[str, Any]) -> dict[str, Any]:
    """Answer with what was sent."""
    return data
