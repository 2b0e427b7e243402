"""Values become samples: whole, without doubles, and readable by Prometheus."""

import platform
import sys
import time
from typing import Literal

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bridge.compiled.switch import Running
from bridge.telemetry import metrics as module
from bridge.telemetry.measures import Histogram
from bridge.telemetry.metrics import BuildCollector, Collector, Family, Samples, registry

FAMILIES = (
    Family("t_things_total", "counter", "Things.", ("of", "kind")),
    Family("t_now", "gauge", "Now."),
    Family("t_seconds", "histogram", "Seconds.", ("of",)),
)


class Some(Collector):
    families = FAMILIES

    def fill(self, samples: Samples) -> None:
        samples.numbers("t_things_total", {"good": 1, "bad": 2}, 'a"\n\\b')
        samples.number("t_now", 0.5)
        histogram = Histogram((0.1, 1.0))
        for seconds in (0.05, 0.5, 5.0):
            histogram.observe(seconds)
        samples.histogram("t_seconds", histogram, "a")


def scraped(collector: Collector) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    made = CollectorRegistry()
    made.register(collector)
    text = generate_latest(made).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_sample_is_read_as_it_was_filled_in() -> None:
    awkward = ("of", 'a"\n\\b')
    assert scraped(Some()) == {
        ("t_things_total", (("kind", "good"), awkward)): 1.0,
        ("t_things_total", (("kind", "bad"), awkward)): 2.0,
        ("t_now", ()): 0.5,
        ("t_seconds_bucket", (("le", "0.1"), ("of", "a"))): 1.0,
        ("t_seconds_bucket", (("le", "1.0"), ("of", "a"))): 2.0,
        ("t_seconds_bucket", (("le", "+Inf"), ("of", "a"))): 3.0,
        ("t_seconds_count", (("of", "a"),)): 3.0,
        ("t_seconds_sum", (("of", "a"),)): 5.55,
    }


def test_samples_with_the_same_labels_are_added_up() -> None:
    """Prometheus refuses the whole scrape of a process that says one thing twice."""
    one, two = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    two.observe(2.5)
    samples = Samples(FAMILIES)
    for histogram in (one, two):
        samples.number("t_now", 1)
        samples.histogram("t_seconds", histogram, "a")
    found = {
        sample.name: sample.value
        for metric in samples
        for sample in metric.samples
        if sample.labels.get("le") != "1.0"
    }
    assert found["t_now"] == 2
    assert (found["t_seconds_count"], found["t_seconds_sum"]) == (2, 3.0)


def test_a_registry_asks_for_the_names_without_asking_for_values() -> None:
    class Silent(Some):
        def fill(self, samples: Samples) -> None:
            raise AssertionError("it was asked for values")

    made = CollectorRegistry(auto_describe=True)
    made.register(Silent())
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        made.register(Silent())


def test_the_build_says_what_runs() -> None:
    ((build, labels), (started, _)) = samples = scraped(BuildCollector())
    assert build == "dtbridge_build_info"
    assert dict(labels)["python"] == platform.python_version()
    assert dict(labels)["compiled"] == module.compiled()
    assert started == "dtbridge_start_time_seconds"
    assert 0 <= time.time() - samples[started, ()] < 24 * 3600


@pytest.mark.parametrize(
    ("forms", "said"),
    [([], "no"), (["source"], "no"), (["compiled"] * 2, "yes"), (["compiled", "source"], "partly")],
)
def test_compiled_partly_or_not(
    monkeypatch: pytest.MonkeyPatch, forms: list[Literal["compiled", "source"]], said: str
) -> None:
    found = {str(number): Running(form) for number, form in enumerate(forms)}
    monkeypatch.setattr(module, "running", lambda: found)
    assert module.compiled() == said


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_registry_of_a_process_says_what_the_process_uses() -> None:
    text = generate_latest(registry(Some())).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"process_cpu_seconds", "dtbridge_build_info", "t_things"} <= names
