"""`dtbridge pause`, `resume` and `paused` as an operator types them."""

import json
import secrets
from collections.abc import Iterator

import pytest

from bridge.testing.rabbitmq import PrivateBroker, free_ports
from tests.acceptance.command import dtbridge, sentence
from tests.integration.support import ROOT, WorkerProcess

TARGET = "tests.integration.echo_vendor:router"
IN_QUEUE = "wait in datatransfer.echo.\n"


@pytest.fixture
def settings(managed_broker: PrivateBroker) -> Iterator[dict[str, str]]:
    """A virtual host of the node with the management API."""
    vhost = f"test-{secrets.token_hex(6)}"
    yield {
        "DTBRIDGE_AMQP_URL": managed_broker.add_vhost(vhost),
        "DTBRIDGE_MANAGEMENT": managed_broker.management_url,
    }
    managed_broker.delete_vhost(vhost)


def said(*arguments: str, settings: dict[str, str]) -> str:
    done = dtbridge(*arguments, settings=settings, folder=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_a_vendor_is_paused_seen_everywhere_and_resumed(settings: dict[str, str]) -> None:
    url = settings["DTBRIDGE_AMQP_URL"]
    (port,) = free_ports(1)
    with WorkerProcess(TARGET, url, http=f"127.0.0.1:{port}") as worker:
        assert said("paused", settings=settings) == "No vendor is paused.\n"
        told = said("pause", "ECHO", settings=settings)
        assert told == f"ECHO is paused: no worker takes its requests, and 0 {IN_QUEUE}"
        assert worker.until("vendor paused")["vendor"] == "echo"
        assert said("pause", "echo", settings=settings)  # once more is as good
        assert said("paused", settings=settings) == "echo: 0 requests wait\n"
        assert said("paused", "Echo", "other", settings=settings) == "Echo: 0 requests wait\n"
        listed = json.loads(said("paused", "--json", settings=settings))
        assert listed == [
            {"vendor": "echo", "queue": "datatransfer.echo", "waiting": 0, "consumers": 0}
        ]
        health = dtbridge("health", f"127.0.0.1:{port}", settings=settings)
        assert health.returncode == 0, health.stderr
        top = said("top", "--once", "--workers", f"127.0.0.1:{port}", settings=settings)
        assert "echo: paused: dtbridge resume ends that" in top
        plan = dtbridge("topology", "plan", TARGET, settings=settings, folder=ROOT)
        assert (plan.returncode, plan.stderr) == (0, ""), plan.stdout
        assert "echo is paused, until `dtbridge resume echo`." in plan.stdout
        doctor = dtbridge("doctor", TARGET, settings=settings, folder=ROOT)
        assert "echo is paused" in doctor.stdout
        assert "nobody takes from" not in doctor.stdout
        told = said("resume", "echo", settings=settings)
        assert told == f"echo is not paused: 1 consumer takes its requests, and 0 {IN_QUEUE}"
        worker.until("vendor resumed")
        assert said("paused", settings=settings) == "No vendor is paused.\n"
    told = said("resume", "echo", "--timeout", "0", settings=settings)
    assert told == f"echo is not paused. No worker takes its requests yet, and 0 {IN_QUEUE}"


def test_a_vendor_that_nobody_handles_is_not_paused_by_mistake(settings: dict[str, str]) -> None:
    told = sentence(dtbridge("pause", "com.acm", settings=settings))
    assert "there is no queue 'datatransfer.com.acm'" in told
    assert said("paused", settings=settings) == "No vendor is paused.\n"
    assert "com.acm is paused." in said("pause", "com.acm", "--force", settings=settings)
    assert said("paused", settings=settings) == "com.acm\n"
    assert "com.acm is not paused." in said("resume", "com.acm", settings=settings)


@pytest.mark.parametrize("vendor", ["", "x" * 256])
def test_what_no_station_can_send_cannot_be_paused(vendor: str) -> None:
    done = dtbridge("pause", vendor)
    assert done.returncode == 2
    assert "1 to 255 characters" in sentence(done)


def test_without_a_broker_it_is_one_sentence() -> None:
    (port,) = free_ports(1)
    for command in ("pause", "resume", "paused"):
        url = f"amqp://guest:secret@127.0.0.1:{port}"
        done = dtbridge(command, "v", settings={"DTBRIDGE_AMQP_URL": url})
        assert done.returncode == 1
        assert "no broker at" in sentence(done)
        assert "secret" not in done.stderr


def test_without_the_management_api_it_says_how_to_ask_all_the_same(amqp_url: str) -> None:
    settings = {"DTBRIDGE_AMQP_URL": amqp_url, "DTBRIDGE_MANAGEMENT": "http://127.0.0.1:1"}
    told = sentence(dtbridge("paused", settings=settings))
    assert "dtbridge paused VENDOR" in told
    assert said("paused", "v", settings=settings) == "None of them is paused.\n"
