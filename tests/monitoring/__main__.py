"""Draws the dashboard from a real Prometheus, workers and gateway, in every kind of trouble.

Run it as `make dashboard`; it writes docs/monitoring/dashboard.svg. Grafana is not needed.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.monitoring.expressions import ROOT, dashboard, filled_in
from tests.monitoring.plot import Drawn, draw, named
from tests.monitoring.prometheus import PrometheusServer
from tests.monitoring.scene import Scene, scene

PICTURE: Final = ROOT / "docs" / "monitoring" / "dashboard.svg"
SECONDS: Final = 240
STEPS: Final = 60
"""Points of a line."""
RATE_INTERVAL: Final = "20s"
NOTE: Final = (
    "Drawn by `make dashboard` from a real Prometheus, two workers, a gateway and RabbitMQ:"
    " handlers that fail, hang and block, strangers, a memory alarm, lost connections, and a Redis"
    " that dies."
    " It shows what there is to see, not how fast it is."
)


async def trouble(it: Scene, seconds: float) -> None:
    """One thing after the other, spread over the time."""

    async def for_a_part(part: float) -> None:
        await asyncio.sleep(part * seconds)

    await for_a_part(0.15)
    for _ in range(3):
        await it.failures()
    await it.refusals()
    await for_a_part(0.1)
    with it.alarm():
        await for_a_part(0.05)
    await for_a_part(0.15)
    it.lose_connections()
    await for_a_part(0.15)
    it.redis.kill()
    await for_a_part(0.1)
    it.redis.start()
    await it.failures()
    await it.refusals()
    await for_a_part(0.1)


def answers(prometheus: PrometheusServer, start: float, end: float) -> dict[int, Drawn]:
    """What each panel has to draw."""
    found: dict[int, Drawn] = {}
    step = (end - start) / STEPS
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expression = filled_in(target["expr"], RATE_INTERVAL)
            series = prometheus.over_time(expression, start, end, step)
            named_ones = [(named(target["legendFormat"], each), each) for each in series]
            found[panel["id"]] = [*found.get(panel["id"], ()), *named_ones]
    return found


async def main(seconds: float, picture: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="dtbridge-scene-") as folder:
        async with scene(Path(folder)) as (it, targets):
            with PrometheusServer(targets) as prometheus:
                start = time.time()
                async with it.traffic():
                    await trouble(it, seconds)
                    end = time.time()
                    found = answers(prometheus, start, end)
    picture.parent.mkdir(exist_ok=True)
    picture.write_text(draw(dashboard()["panels"], found, (start, end), NOTE), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make dashboard")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to play")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw it")
    given = parser.parse_args()
    asyncio.run(main(given.seconds, given.picture))
