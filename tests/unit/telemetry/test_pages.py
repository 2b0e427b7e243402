"""What the pages say."""

import gzip
import json
from email.message import Message

import pytest
from prometheus_client import CollectorRegistry, Counter

from bridge.telemetry.families import decode
from bridge.telemetry.health import Finding, Health
from bridge.telemetry.http import Answer
from bridge.telemetry.pages import FAMILIES, LIVE, METRICS, READY, families_page, pages

WELL = Finding(True, "well")
ILL = Finding(False, "broker: gone", {"broker": Finding(False, "gone \x1b[31m")})
REGISTRY = CollectorRegistry()
Counter("asked", "Asked.", registry=REGISTRY).inc(3)


def answer(page: str, query: str = "", **headers: str) -> Answer:
    asked = Message()
    for name, value in headers.items():
        asked[name.replace("_", "-")] = value
    return pages(Health(lambda: WELL, lambda: ILL), REGISTRY)[page](query, asked)


def test_what_is_well_is_200() -> None:
    found = answer(LIVE)
    assert (found.status, json.loads(found.body)) == (200, {"ok": True, "reason": "well"})


def test_what_is_not_well_is_503_with_each_check_and_its_reason() -> None:
    found = answer(READY)
    assert found.status == 503
    assert found.content_type == "application/json"
    assert json.loads(found.body) == {
        "ok": False,
        "reason": "broker: gone",
        "checks": {"broker": {"ok": False, "reason": "gone \x1b[31m"}},
    }
    assert b"\x1b" not in found.body  # for whoever reads it on a terminal


@pytest.mark.parametrize(
    ("accept", "content_type", "last"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", b"asked_total 3.0"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", b"# EOF"),
    ],
)
def test_metrics_come_in_the_form_that_is_asked_for(
    accept: str, content_type: str, last: bytes
) -> None:
    found = answer(METRICS, Accept=accept)
    assert found.status == 200
    assert found.content_type.startswith(content_type)
    assert last in found.body


def test_metrics_are_compressed_for_who_takes_that() -> None:
    found = answer(METRICS, Accept_Encoding="gzip")
    assert ("Content-Encoding", "gzip") in found.headers
    assert b"asked_total 3.0" in gzip.decompress(found.body)


def test_metrics_can_be_asked_for_by_name() -> None:
    assert b"asked_total" not in answer(METRICS, "name[]=other").body


def test_what_the_supervisor_is_told_is_told_to_nobody_else() -> None:
    assert FAMILIES not in pages(Health(lambda: WELL, lambda: WELL), REGISTRY)
    (metric,) = decode(families_page(REGISTRY)("", Message()).body)
    assert metric.name == "asked"
