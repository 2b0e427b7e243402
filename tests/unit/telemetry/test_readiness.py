"""Readiness as a metric."""

from prometheus_client import CollectorRegistry

from bridge.telemetry.health import Check, Finding, all_of
from bridge.telemetry.readiness import ReadinessCollector


def test_each_check_has_a_sample_of_now() -> None:
    found = {"connected": True, "store": True}

    def check(name: str) -> Check:
        return lambda: Finding(found[name])

    registry = CollectorRegistry()
    registry.register(ReadinessCollector(lambda: all_of({name: check(name) for name in found})))

    def value(name: str) -> float | None:
        return registry.get_sample_value("dtbridge_ready", {"check": name})

    assert (value("connected"), value("store")) == (1, 1)
    found["store"] = False
    assert (value("connected"), value("store")) == (1, 0)
