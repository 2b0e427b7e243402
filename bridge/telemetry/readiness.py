"""The checks of ``/readyz`` as a metric, for alerts that name what is amiss."""

from bridge.telemetry.health import Check
from bridge.telemetry.metrics import Collector, Family, Samples


class ReadinessCollector(Collector):
    """What a process says of its own readiness."""

    families = (
        Family("dtbridge_ready", "gauge", "1 while a check of /readyz holds, else 0.", ("check",)),
    )

    def __init__(self, ready: Check) -> None:
        """`ready`: what /readyz answers with."""
        self._ready = ready

    def fill(self, samples: Samples) -> None:
        for name, finding in self._ready().checks.items():
            samples.number("dtbridge_ready", finding.ok, name)
