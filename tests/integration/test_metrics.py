"""The metrics of a worker on a real RabbitMQ: its sessions, its publishings, its whole scrape."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import aio_pika
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bridge import Call, Router
from bridge.client.client import Client
from bridge.gateway import GatewayLink, LinkCollector
from bridge.telemetry.metrics import registry
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import State
from bridge.worker.metrics import worker_registry
from bridge.worker.worker import Worker
from tests.integration.support import (
    NAMES,
    PATIENCE,
    close_connections,
    request,
    working,
)
from tests.integration.test_session import answers, ask, gated, memory_alarm

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
LISTED = {
    name
    for row in re.findall(r"^\| (`dtbridge_[^|]+) \|", DOCUMENT, re.MULTILINE)
    for name in re.findall(r"`([^`]+)`", row)
}


def router() -> Router:
    router = Router("v")

    @router.default
    async def accepts(call: Call, data: str | None) -> str | None:
        return data

    return router


def value(worker: Worker, name: str, **labels: str) -> float:
    return worker_registry(worker).get_sample_value(name, labels) or 0.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_session_that_the_broker_closes_is_counted_with_its_cause(
    broker: PrivateBroker, amqp_url: str
) -> None:
    async with working(amqp_url, router()) as it:
        began_at = value(it.worker, "dtbridge_session_start_time_seconds")
        assert began_at > 0
        assert value(it.worker, "dtbridge_session_state", state="consuming") == 1
        close_connections(broker, amqp_url)
        await it.transport.until(State.CONSUMING, State.CONNECTING, State.CONSUMING)
        assert value(it.worker, "dtbridge_sessions_opened_total") == 2
        causes = {
            cause: value(it.worker, "dtbridge_sessions_lost_total", cause=cause)
            for cause in it.worker.sessions.lost
        }
        assert {cause for cause, number in causes.items() if number} == {"closed_by_broker"}
        assert value(it.worker, "dtbridge_session_start_time_seconds") > began_at
    assert value(it.worker, "dtbridge_session_state", state="stopped") == 1


async def test_a_queue_that_is_deleted_is_told_from_a_connection_that_is_lost(
    amqp_url: str,
) -> None:
    async with (
        working(amqp_url, router()) as it,
        await aio_pika.connect(amqp_url) as connection,
    ):
        channel = await connection.channel()
        await channel.queue_delete(NAMES.vendor_queue("v"))
        await it.transport.until(State.CONSUMING, State.CONNECTING, State.CONSUMING)
        lost = value(it.worker, "dtbridge_sessions_lost_total", cause="consumer_cancelled")
        assert lost == 1


async def test_an_alarm_is_seen_while_it_lasts_and_its_seconds_stay(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("measured-alarm")
    async with gated(url) as (gate, it, client, _):
        assert value(it.worker, "dtbridge_blocked_seconds_total") == 0
        asked = ask(client, 1)
        await gate.admit(1)
        with memory_alarm(breakable_broker):
            gate.open.set()  # a publisher is told when it publishes
            await it.transport.until(State.BLOCKED)
            assert value(it.worker, "dtbridge_session_state", state="blocked") == 1
            first = value(it.worker, "dtbridge_blocked_seconds_total")
            await until(lambda: value(it.worker, "dtbridge_blocked_seconds_total") > first)
        await it.transport.until(State.BLOCKED, State.CONSUMING)
        await answers(asked)
        blocked = value(it.worker, "dtbridge_blocked_seconds_total")
        assert blocked > first
        await asyncio.sleep(0.02)
        assert value(it.worker, "dtbridge_blocked_seconds_total") == blocked
        assert value(it.worker, "dtbridge_sessions_opened_total") == 1
    breakable_broker.delete_vhost("measured-alarm")


async def test_confirms_are_timed_and_answers_that_no_queue_takes_are_counted(
    amqp_url: str,
) -> None:
    async with working(amqp_url, router()) as it, Client(amqp_url, timeout=PATIENCE) as client:
        for number in range(10):
            await client.data_transfer("CP", request(data=str(number)))
        await until(lambda: value(it.worker, "dtbridge_confirm_seconds_count") >= 9)
        assert value(it.worker, "dtbridge_publishings_failed_total", cause="returned") == 0
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            exchange = await channel.get_exchange("datatransfer")
            gone = aio_pika.Message(
                b'{"vendorId":"v"}',
                headers={"ocpp-station-id": "CP"},
                reply_to="amq.gen-gone",
                correlation_id="1",
            )
            await exchange.publish(gone, "v")
        await until(
            lambda: value(it.worker, "dtbridge_publishings_failed_total", cause="returned") == 1
        )
    labels = {"vendor": "v", "message": "(default)", "outcome": "accepted"}
    assert value(it.worker, "dtbridge_requests_total", **labels) == 11


def names(made: CollectorRegistry) -> set[str]:
    """The metrics of a scrape, by their names in the document."""
    text = generate_latest(made).decode()
    _promtool(text)
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text)
        if family.name.startswith("dtbridge_")
    }


def _promtool(text: str) -> None:
    """Prometheus' own check of names and units, where it is installed."""
    promtool = shutil.which("promtool")
    if promtool is not None:
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_every_metric_of_a_real_scrape_stands_in_the_document(amqp_url: str) -> None:
    async with (
        working(amqp_url, router()) as it,
        GatewayLink(amqp_url) as link,
        Client(amqp_url, timeout=PATIENCE) as client,
    ):
        await client.data_transfer("CP", request(data="1"))
        await link.data_transfer("CP", "ocpp1.6", request(data="1"))
        found = names(worker_registry(it.worker)) | names(registry(LinkCollector(link)))
        assert found <= LISTED
        assert {"dtbridge_requests_total", "dtbridge_link_requests_total"} <= found


async def test_a_gateway_and_a_client_say_when_they_publish(amqp_url: str) -> None:
    async with (
        working(amqp_url, router()) as it,
        GatewayLink(amqp_url) as link,
        Client(amqp_url, timeout=PATIENCE) as client,
    ):
        await client.data_transfer("CP", request(data="1"))
        assert value(it.worker, "dtbridge_queue_lag_seconds_count", vendor="v") == 1
        await link.data_transfer("CP", "ocpp1.6", request(data="1"))
        assert value(it.worker, "dtbridge_queue_lag_seconds_count", vendor="v") == 2
        assert value(it.worker, "dtbridge_queue_lag_seconds_sum", vendor="v") < PATIENCE


async def test_the_time_in_the_queue_is_that_since_the_timestamp(amqp_url: str) -> None:
    seconds = 5
    async with (
        working(amqp_url, router()) as it,
        await aio_pika.connect(amqp_url) as connection,
    ):
        channel = await connection.channel()
        exchange = await channel.get_exchange("datatransfer")
        sent = aio_pika.Message(
            b'{"vendorId":"v"}',
            headers={"ocpp-station-id": "CP"},
            timestamp=time.time() - seconds,
        )
        await exchange.publish(sent, "v")
        await until(lambda: value(it.worker, "dtbridge_queue_lag_seconds_count", vendor="v") == 1)
        assert seconds <= value(it.worker, "dtbridge_queue_lag_seconds_sum", vendor="v") < PATIENCE
