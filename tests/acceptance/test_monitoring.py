"""A real Prometheus scrapes real workers, a gateway and RabbitMQ, in every kind of trouble.

What the dashboard and the rules ask for must be there, by the names and labels that they ask for.
"""

import asyncio
import contextlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.support import PATIENCE
from tests.monitoring.expressions import Query, filled_in, queries, rules, selectors
from tests.monitoring.prometheus import PrometheusServer
from tests.monitoring.scene import scene

RATE_INTERVAL = "1m"
QUERIES = queries()
EXPRESSIONS = {
    rule.get("alert", rule.get("record")): rule["expr"]
    for rule in (*rules("record"), *rules("alert"))
}
ASKED = sorted(
    {
        selector
        for expression in [*EXPRESSIONS.values(), *[query.expression for query in QUERIES]]
        for selector in selectors(filled_in(expression, RATE_INTERVAL))
    }
)
"""The selectors of everything."""


class Measured(NamedTuple):
    prometheus: PrometheusServer
    start: float
    end: float
    down: dict[str, str]
    """Targets that did not answer while all was there."""
    pages: dict[str, str]
    """The metrics of a worker and of the gateway, as they are served."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """The scene is over when the tests ask; Prometheus remembers it."""
    with contextlib.ExitStack() as stack:
        yield asyncio.run(_measure(tmp_path_factory.mktemp("scene"), stack))


async def _measure(folder: Path, stack: contextlib.ExitStack) -> Measured:
    async with scene(folder) as (it, targets):
        prometheus = await asyncio.to_thread(stack.enter_context, PrometheusServer(targets))
        start = time.time()

        async def until(expression: str) -> None:
            await asyncio.to_thread(prometheus.until, expression)

        async with it.traffic():
            await until("sum(up) == count(up) and count(up) == 5")
            down = await asyncio.to_thread(prometheus.targets)
            await it.failures()
            await it.refusals()
            with it.alarm():
                await until('dtbridge_session_state{state="blocked"} == 1')
            await until('min(dtbridge_session_state{state="consuming"}) == 1')
            it.lose_connections()
            await until("sum(dtbridge_sessions_lost_total) > 0")
            it.redis.kill()
            await until(
                'dtbridge_ready{check="store"} == 0 and on () sum(dtbridge_store_errors_total) > 0'
            )
            pages = {
                name: await asyncio.to_thread(_page, targets[name][0])
                for name in ("worker", "gateway")
            }
            await _until_all_is_there(prometheus, start)
        return Measured(prometheus, start, time.time(), down, pages)


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
    return text


async def _until_all_is_there(prometheus: PrometheusServer, start: float) -> None:
    """RabbitMQ looks at its queues every five seconds. What does not come is told by the tests."""
    give_up_at = time.monotonic() + PATIENCE
    missing = ASKED
    while missing and time.monotonic() < give_up_at:
        await asyncio.sleep(0.5)
        now = time.time()
        missing = [
            selector
            for selector in missing
            if not await asyncio.to_thread(prometheus.over_time, selector, start, now)
        ]


def test_every_target_answers(measured: Measured) -> None:
    assert measured.down == {}


@pytest.mark.parametrize("selector", ASKED)
def test_there_is_a_series_for_each_selector(measured: Measured, selector: str) -> None:
    """Of the dashboard, the alerts and the recorded rules."""
    assert measured.prometheus.over_time(selector, measured.start, measured.end)


@pytest.mark.parametrize(
    "query", QUERIES, ids=[f"{query.panel}: {query.legend}" for query in QUERIES]
)
def test_a_query_of_the_dashboard_has_data(measured: Measured, query: Query) -> None:
    expression = filled_in(query.expression, RATE_INTERVAL)
    assert measured.prometheus.over_time(expression, measured.start, measured.end)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_rule_can_be_evaluated(measured: Measured, name: str) -> None:
    found = measured.prometheus.over_time(EXPRESSIONS[name], measured.start, measured.end)
    assert found or name.startswith("DataTransfer"), "a recorded rule records something"
    assert name not in measured.prometheus.rule_errors()


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_names_and_units_are_as_prometheus_wants_them(measured: Measured, name: str) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not on PATH: `make test` installs it with Prometheus"
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=measured.pages[name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
