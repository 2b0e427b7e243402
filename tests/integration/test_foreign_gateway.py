"""A gateway without any code of ours gets the answer of every row of the decision table."""

import base64
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.decision_table import DEAD, ROWS, Row, ask, expected
from tests.integration.support import (
    NAMES,
    PATIENCE,
    WorkerProcess,
    clean_environment,
    dead_letters,
    ready,
)

GATEWAY = Path(__file__).with_name("foreign_gateway.py")
VERSIONS = ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"]
REPLIES = ["gen", "direct", "named"]
TRACE = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "vendor=1",
}


def as_request(key: str, row: Row, version: str, reply: Any, answered: bool) -> dict[str, Any]:
    headers: dict[str, Any] = {
        "ocpp-station-id": "CP-1",
        "ocpp-version": version,
        "CC": ["everybody"],
        "x-own": "1",
    }
    headers |= TRACE
    within = expiration = None
    if row.within is not None and row.within > 1:
        within, expiration = row.within, row.within * 1000
    elif row.within is not None:
        # It has passed when the worker sees the request. With an expiration, the broker might drop
        # the request before.
        headers["ocpp-deadline"] = int((time.time() + row.within) * 1000)
    return {
        "id": key,
        "vendor_id": row.vendor,
        "body": base64.b64encode(row.body).decode(),
        "headers": headers,
        "reply": reply,
        "within": within,
        "expiration": expiration,
        "message_id": "ocpp-7",
        "expected": int(answered),
    }


class Run:
    """The outcome of one run of the gateway against one worker."""

    def __init__(self, broker: PrivateBroker) -> None:
        self.url = broker.add_vhost("foreign")
        target = "tests.integration.decision_table_vendors:routers"
        with WorkerProcess(target, self.url, idempotency="none") as worker:
            requests = list(self.requests())
            gateway = subprocess.run(
                [sys.executable, str(GATEWAY), self.url],
                input=json.dumps(requests),
                env=clean_environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE + 10,
            )
            assert gateway.returncode == 0, gateway.stderr
            assert worker.stop() == 0
        self.replies: dict[str, list[dict[str, Any]]] = json.loads(gateway.stdout)
        self.counts = worker.counts
        self.sent = len(requests)
        self.log = worker.log

    def requests(self) -> Iterator[dict[str, Any]]:
        for version, reply, name in itertools.product(VERSIONS, REPLIES, ROWS):
            row = ROWS[name]
            yield as_request(
                f"{version} {reply} {name}",
                row,
                version,
                reply,
                expected(name, version) is not None,
            )
        nothing, raises = ROWS["None"], ROWS["an exception"]
        for queue in ("victim", "amq.rabbitmq.trace", "datatransfer.dead", "datatransfer.com.acme"):
            yield as_request(
                f"forbidden {queue}", nothing, "ocpp2.1", {"to": queue}, answered=False
            )
        for number in range(3):
            yield as_request(
                f"gone {number}",
                nothing,
                "ocpp2.1",
                {"to": f"amq.gen-gone-{number}"},
                answered=False,
            )
            yield as_request(f"nobody waits {number}", nothing, "ocpp2.1", "none", answered=False)
        yield as_request("nobody waits and it fails", raises, "ocpp2.1", "none", answered=False)
        for vendor in ("com.acme", "EN+", "Nobody"):  # after all others in its queue
            sentinel = Row(ask(vendor=vendor), {}, vendor=vendor)
            yield as_request(f"sentinel {vendor}", sentinel, "ocpp2.1", "gen", answered=True)


@pytest.fixture(scope="module")
def run(broker: PrivateBroker) -> Iterator[Run]:
    run = Run(broker)
    yield run
    broker.delete_vhost("foreign")


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_row_of_the_decision_table(run: Run, version: str, reply: str) -> None:
    got = {
        name: [answer(came) for came in run.replies[f"{version} {reply} {name}"]] for name in ROWS
    }
    assert got == {name: [] if (due := expected(name, version)) is None else [due] for name in ROWS}


def answer(reply: dict[str, Any]) -> dict[str, Any]:
    return {"type": reply["type"], "body": json.loads(reply["body"])}


def test_a_reply_comes_where_it_was_asked_for_and_carries_what_the_contract_says_and_no_more(
    run: Run,
) -> None:
    for key, replies in run.replies.items():
        for reply in replies:
            asked = key.split()[1] if key.startswith("ocpp") else "gen"
            assert reply["came_by"] == asked
            assert reply["content_type"] == "application/json"
            assert reply["headers"] == {"ocpp-station-id": "CP-1", **TRACE}
            assert (reply["message_id"], reply["reply_to"], reply["user_id"]) == (None, None, None)


def test_a_reply_expires_with_its_deadline(run: Run) -> None:
    for version, asked in itertools.product(VERSIONS, REPLIES):
        timed = run.replies[f"{version} {asked} Retry, then well"][0]["expiration"]
        assert 0 < timed < 20.0
        assert run.replies[f"{version} {asked} None"][0]["expiration"] is None


def test_what_must_not_be_answered_is_settled_and_counted(run: Run) -> None:
    assert not any(
        replies
        for key, replies in run.replies.items()
        if key.startswith(("forbidden", "gone", "nobody"))
    )
    assert run.counts["forbidden"] == 4
    assert run.counts["unroutable_replies"] == 3
    assert run.counts["unasked"] == 4
    assert run.counts["returned_to_queue"] == 0


async def test_every_request_is_settled_and_every_failed_one_kept(run: Run) -> None:
    queues = [NAMES.vendor_queue("com.acme"), NAMES.vendor_queue("EN+"), NAMES.unknown_vendor]
    assert await ready(run.url, *queues) == dict.fromkeys(queues, 0)
    kept = sorted(message.correlation_id or "" for message in await dead_letters(run.url))
    runs = [f"{version} {reply}" for version, reply in itertools.product(VERSIONS, REPLIES)]
    assert kept == sorted(
        ["", *(f"{which} {name}" for which in runs for name in DEAD | {"deadline past after"})]
    )


def test_no_exception_text_leaves_and_the_log_has_it(run: Run) -> None:
    assert "hunter2" not in json.dumps(run.replies)
    failures = [line["error"] for line in run.log if line.get("event") == "request dead-lettered"]
    assert "RuntimeError: password=hunter2" in failures
