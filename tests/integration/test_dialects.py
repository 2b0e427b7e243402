"""Other gateways get the answer of every row from a real worker.

They are played by processes that share no code with us, which publish what rabbitmq-web-ocpp and
CitrineOS publish, in all its forms. Every field of the answers is looked at.
"""

import base64
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.decision_table import DEAD, ROWS
from tests.integration.decision_table import expected as expected_by_native
from tests.integration.support import (
    PATIENCE,
    WorkerProcess,
    clean_environment,
    dead_letters,
    ready,
)
from tests.integration.test_foreign_gateway import VERSIONS

FOLDER = Path(__file__).parent
TARGET = "tests.integration.decision_table_vendors:routers"
PROTOCOLS = {"ocpp1.6": "ocpp16", "ocpp2.0.1": "ocpp201", "ocpp2.1": "ocpp21"}
NONSENSE = b"nonsense" * 125_000
"""A megabyte."""


def expected(row: str, version: str, message_id: str) -> Any:
    """The payload of the answer, or the parts of the error; None: there is none."""
    answer = expected_by_native(row, version)
    if answer is None:
        return None
    text = json.dumps(answer["body"]).replace(
        "ocpp-7", message_id
    )  # the message id that the other gateway uses
    return json.loads(text)


def encoded(body: bytes) -> str:
    return base64.b64encode(body).decode()


def play(gateway: str, url: str, told: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a foreign gateway until it has its answers."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / gateway), url],
        input=json.dumps(told) + "\n",
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE + 30,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


class Run:
    """What one run of a foreign gateway against one worker has shown."""

    def __init__(
        self,
        broker: PrivateBroker,
        vhost: str,
        gateway: str,
        tell: Callable[[], dict[str, Any]],
        **settings: Any,
    ) -> None:
        """`tell`: what to publish, asked when the worker runs: deadlines count from then."""
        self.url = broker.add_vhost(vhost)
        with WorkerProcess(TARGET, self.url, idempotency="none", **settings) as worker:
            told = tell()
            self.answers = play(gateway, self.url, told)
            assert worker.stop() == 0
        self.counts = worker.counts
        self.log = worker.log
        self.sent = len(told["messages"])


# ---- rabbitmq-web-ocpp ----

WEB_ROWS = [name for name in ROWS if not name.startswith(("deadline", "not JSON"))]
"""The plugin names no deadline, and a payload that is no JSON makes a frame that is none."""
WEB_WITHIN = 10.0
"""Seconds."""


def web_message(protocol: str, frame: bytes, **changes: Any) -> dict[str, Any]:
    """As the plugin publishes what a station sent."""
    return {
        "key": f"{protocol}.DataTransfer.req",
        "body": encoded(frame),
        "correlation_id": None,
        "reply_to": "CP-1",
        "type": "DataTransfer",
        "delivery_mode": 1,
        **changes,
    }


def web_rows() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Message id, row, version and message. Newer plugins publish persistent messages."""
    for number, (version, delivery_mode, name) in enumerate(
        itertools.product(VERSIONS, (1, 2), WEB_ROWS)
    ):
        message_id = f"w-{number}"
        frame = b'[2,"%b","DataTransfer",%b]' % (message_id.encode(), ROWS[name].body)
        properties = {"correlation_id": message_id, "delivery_mode": delivery_mode}
        yield message_id, name, version, web_message(PROTOCOLS[version], frame, **properties)


BROKEN_CALLS = [
    ("ocpp16", b'[2,"b-1","DataTransfer"', "b-1", "FormationViolation"),
    ("ocpp201", b"{}", "b-2", "RpcFrameworkError"),
    ("ocpp21", NONSENSE, "b-3", "RpcFrameworkError"),
    ("ocpp16", b'[2,17,"DataTransfer",{"vendorId":"com.acme"}]', "17", "FormationViolation"),
    ("ocpp201", b'[2,"b-4","DataTransfer",{"vendorId":"com.acme"},1]', "b-4", "RpcFrameworkError"),
]
WEB_FOREIGN = [
    web_message("ocpp16", b'[3,"f-1",{"status":"Accepted"}]', correlation_id="f-1", type=None),
    web_message(
        "ocpp16", b'[4,"f-2","GenericError","",{}]', correlation_id="f-2", type="GenericError"
    ),
    web_message(
        "ocpp21", b'[6,"f-3","DataTransfer",{"vendorId":"com.acme"}]', correlation_id="f-3"
    ),
    web_message("ocpp201", b'[9,"f-4"]', correlation_id="f-4"),
    web_message("ocpp201", b'[2,"f-5","Heartbeat",{}]', correlation_id="f-5", type="Heartbeat"),
    web_message(
        "ocpp201",
        b'[2,"f-6","DataTransfer",{"vendorId":"com.acme"}]',
        correlation_id="f-6",
        reply_to=None,
    ),
    web_message("ocpp201", NONSENSE, reply_to=None),
]


@pytest.fixture(scope="module")
def web(broker: PrivateBroker) -> Iterator[Run]:
    rows = list(web_rows())
    broken = [
        web_message(protocol, body, correlation_id=own) for protocol, body, own, _ in BROKEN_CALLS
    ]
    # A station that bears the name of a routing key: its answer would come back to us as a request.
    posing = web_message(
        "ocpp16",
        b'[2,"p-1","DataTransfer",%b]' % ROWS["None"].body,
        reply_to="ocpp16.DataTransfer.req",
    )
    told = {
        "exchange": "amq.topic",
        "messages": [*WEB_FOREIGN, *broken, posing, *(message for *_, message in rows)],
        "expected": len(rows) + len(broken),
    }
    yield Run(
        broker,
        "web-ocpp",
        "foreign_web_ocpp.py",
        lambda: told,
        dialect="web-ocpp",
        answer_within=WEB_WITHIN,
    )
    broker.delete_vhost("web-ocpp")


def web_payload(answer: dict[str, Any]) -> Any:
    kind, _, *rest = json.loads(answer["body"])
    if kind == 3:
        assert len(rest) == 1
        return rest[0]
    assert kind == 4
    return dict(zip(("errorCode", "errorDescription", "errorDetails"), rest, strict=True))


def test_web_ocpp_gets_the_answer_of_every_row_and_one_only(web: Run) -> None:
    got: dict[str, list[Any]] = {}
    for answer in web.answers:
        got.setdefault(json.loads(answer["body"])[1], []).append(web_payload(answer))
    for _, _, own, code in BROKEN_CALLS:
        (error,) = got.pop(own)
        assert (error["errorCode"], error["errorDetails"]) == (code, {})
    assert got == {
        message_id: [expected(row, version, message_id)]
        for message_id, row, version, _ in web_rows()
    }


def test_an_answer_to_web_ocpp_is_a_frame_for_the_stations_queue_that_expires(web: Run) -> None:
    for answer in web.answers:
        assert (answer["station"], answer["exchange"], answer["routing_key"]) == (
            "CP-1",
            "amq.topic",
            "CP-1",
        )
        assert answer["correlation_id"] == json.loads(answer["body"])[1]
        assert (answer["content_type"], answer["delivery_mode"]) == ("application/json", 1)
        assert (answer["type"], answer["reply_to"], answer["message_id"], answer["headers"]) == (
            None,
            None,
            None,
            {},
        )
        assert 0 < answer["expiration"] <= WEB_WITHIN


async def test_what_is_no_request_of_web_ocpp_is_kept_and_nothing_is_left_in_its_queues(
    web: Run,
) -> None:
    queues = [
        f"datatransfer-web-ocpp.{protocol}"
        for protocol in ("ocpp16", "ocpp20", "ocpp201", "ocpp21")
    ]
    assert await ready(web.url, *queues) == dict.fromkeys(queues, 0)
    letters = await dead_letters(web.url)
    reasons = [str(letter.headers["dtbridge-reason"]) for letter in letters]
    assert reasons.count("foreign") == len(WEB_FOREIGN) + len(BROKEN_CALLS)
    given_up = DEAD & set(WEB_ROWS)
    assert len(letters) - reasons.count("foreign") == len(VERSIONS) * 2 * len(given_up)
    assert sorted(
        letter.body for letter in letters if letter.headers["dtbridge-reason"] == "foreign"
    ) == sorted(
        [base64.b64decode(message["body"]) for message in WEB_FOREIGN]
        + [body for _, body, _, _ in BROKEN_CALLS]
    )
    assert (web.counts["foreign"], web.counts["forbidden"]) == (
        len(WEB_FOREIGN) + len(BROKEN_CALLS),
        1,
    )
    assert (web.counts["received"] - web.counts["retried"], web.counts["returned_to_queue"]) == (
        web.sent,
        0,
    )
    assert web.counts["unroutable_replies"] == 0


# ---- CitrineOS ----

CITRINE_ROWS = [name for name in ROWS if name != "not JSON"]
FORMS = list(itertools.product(("stationId", "ocppConnectionName"), ("", "_")))


def citrine_message(
    payload: bytes,
    message_id: str,
    version: str = "ocpp2.0.1",
    name: str = "stationId",
    underscore: str = "",
    within: float | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A message as the router publishes what a station sent, or as a module passes it on.

    `within`: seconds until the deadline.
    """
    received = time.time() if within is None else time.time() + min(within, 20.0) - 20.0
    timestamp = (
        datetime.fromtimestamp(received, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
    context = {name: "CP-1", "correlationId": message_id, "tenantId": 1, "timestamp": timestamp}
    routing = {"origin": "cs", "eventGroup": "router", "action": "DataTransfer"}
    body = {**routing, "context": context, "state": 1, "protocol": version, **changes}
    text = json.dumps({f"{underscore}{part}": value for part, value in body.items()})
    return {
        "headers": {**routing, "state": "1", **context, "tenantId": "1"},
        "body": encoded(text[:-1].encode() + b',"%bpayload":%b}' % (underscore.encode(), payload)),
    }


def citrine_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Message id, row, version and form: the name for the station, and the prefix of all names."""
    for number, (version, (name, underscore), row) in enumerate(
        itertools.product(VERSIONS, FORMS, CITRINE_ROWS)
    ):
        yield f"c-{number}", row, version, name, underscore


CITRINE_FOREIGN = [
    citrine_message(b"{}", "f-1", action="Heartbeat"),
    citrine_message(b'{"status":"Accepted"}', "f-2", state=2),
    citrine_message(b"{}", "f-3", origin="csms"),
    citrine_message(b"{}", "f-4", context={"tenantId": 1})
    | {"headers": {"action": "DataTransfer", "origin": "cs", "state": "1"}},
    {
        "headers": {"action": "DataTransfer", "origin": "cs", "state": "1"},
        "body": encoded(NONSENSE),
    },
    {
        "headers": {"action": "DataTransfer", "origin": "cs", "state": "1", "stationId": 7},
        "body": encoded(b"{"),
    },
]


@pytest.fixture(scope="module")
def citrine(broker: PrivateBroker) -> Iterator[Run]:
    broken = {
        "headers": citrine_message(b"{}", "b-1")["headers"],
        "body": encoded(b'{"origin":"cs"'),
    }
    answered = sum(
        expected(row, version, message_id) is not None
        for message_id, row, version, *_ in citrine_rows()
    )

    def told() -> dict[str, Any]:
        rows = [
            citrine_message(ROWS[row].body, message_id, version, name, underscore, ROWS[row].within)
            for message_id, row, version, name, underscore in citrine_rows()
        ]
        return {
            "exchange": "citrineos",
            "messages": [*rows, *CITRINE_FOREIGN, broken],
            "expected": answered + 1,
        }

    yield Run(broker, "citrineos", "foreign_citrineos.py", told, dialect="citrineos")
    broker.delete_vhost("citrineos")


def citrine_payload(body: dict[str, Any]) -> Any:
    payload = body["payload"]
    if payload.get("name") != "OcppError":
        return payload
    assert payload.keys() == {"name", "_messageId", "_errorCode", "_errorDetails", "message"}
    assert payload["_messageId"] == body["context"]["correlationId"]
    return {
        "errorCode": payload["_errorCode"],
        "errorDescription": payload["message"],
        "errorDetails": payload["_errorDetails"],
    }


def test_citrineos_gets_the_answer_of_every_row_and_one_only(citrine: Run) -> None:
    got: dict[str, list[Any]] = {}
    for answer in citrine.answers:
        body = json.loads(answer["body"])
        got.setdefault(body["context"]["correlationId"], []).append(citrine_payload(body))
    (broken,) = got.pop("b-1")
    assert broken["errorCode"] == "FormatViolation"
    due = {
        message_id: expected(row, version, message_id)
        for message_id, row, version, *_ in citrine_rows()
    }
    assert got == {message_id: [answer] for message_id, answer in due.items() if answer is not None}


def test_an_answer_to_citrineos_repeats_the_envelope_and_reaches_the_router_of_its_version(
    citrine: Run,
) -> None:
    forms = {message_id: (version, name) for message_id, _, version, name, _ in citrine_rows()}
    for answer in citrine.answers:
        body = json.loads(answer["body"])
        context = body["context"]
        version, name = forms.get(context["correlationId"], (None, "stationId"))
        assert answer["queue"] == name
        assert context.keys() == {name, "correlationId", "tenantId", "timestamp"}
        assert (context[name], context["tenantId"]) == ("CP-1", 1)
        routing = {"origin": "csms", "eventGroup": "router", "action": "DataTransfer"}
        assert {part: body[part] for part in ("origin", "eventGroup", "action", "state")} == {
            **routing,
            "state": 2,
        }
        assert body.get("protocol") == version
        assert answer["headers"] == {**routing, "state": "2", **context, "tenantId": "1"}
        assert (answer["exchange"], answer["routing_key"]) == ("citrineos", "")
        assert (answer["content_type"], answer["content_encoding"]) == ("application/json", "utf-8")
        assert (answer["correlation_id"], answer["reply_to"]) == (None, None)
        assert 0 < answer["expiration"] <= 20


async def test_what_is_no_request_of_citrineos_is_kept_and_nothing_is_left_in_its_queue(
    citrine: Run,
) -> None:
    assert await ready(citrine.url, "datatransfer-citrineos") == {"datatransfer-citrineos": 0}
    letters = await dead_letters(citrine.url)
    reasons = [str(letter.headers["dtbridge-reason"]) for letter in letters]
    assert reasons.count("foreign") == len(CITRINE_FOREIGN) + 1
    forms = len(VERSIONS) * len(FORMS)
    assert reasons.count("expired") == 2 * forms  # before it was handled, and while
    assert len(letters) - reasons.count("foreign") == forms * len(DEAD | {"deadline past after"})
    assert citrine.counts["foreign"] == len(CITRINE_FOREIGN) + 1
    assert (
        citrine.counts["received"] - citrine.counts["retried"],
        citrine.counts["returned_to_queue"],
    ) == (
        citrine.sent,
        0,
    )
    assert citrine.counts["unroutable_replies"] == 0


def test_no_exception_text_leaves_and_the_log_has_it(web: Run, citrine: Run) -> None:
    for run in (web, citrine):
        assert "hunter2" not in json.dumps(run.answers)
        failures = [
            line["error"] for line in run.log if line.get("event") == "request dead-lettered"
        ]
        assert "RuntimeError: password=hunter2" in failures
        assert any(line.get("event") == "foreign message" for line in run.log)


# ---- dead letters ----


def dead(url: str, *arguments: str) -> list[dict[str, Any]]:
    """`dtbridge dead` with JSON output."""
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "dead", *arguments, "--json", "--amqp-url", url],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def web_dead(url: str) -> dict[str, Any]:
    frame = b'[2,"d-1","DataTransfer",{"vendorId":"com.acme","messageId":"Raises"}]'
    told = {
        "exchange": "amq.topic",
        "messages": [web_message("ocpp16", frame, correlation_id="d-1")],
        "expected": 1,
    }
    return play("foreign_web_ocpp.py", url, told)[0]


def citrine_dead(url: str) -> dict[str, Any]:
    payload = b'{"vendorId":"com.acme","messageId":"Raises"}'
    told = {
        "exchange": "citrineos",
        "messages": [citrine_message(payload, "d-1", "ocpp1.6")],
        "expected": 1,
    }
    return play("foreign_citrineos.py", url, told)[0]


@pytest.mark.parametrize(("dialect", "ask"), [("web-ocpp", web_dead), ("citrineos", citrine_dead)])
def test_a_dead_letter_of_a_dialect_is_listed_and_replayed_and_fails_again_without_an_answer(
    amqp_url: str, dialect: str, ask: Callable[[str], dict[str, Any]]
) -> None:
    with WorkerProcess(TARGET, amqp_url, dialect=dialect):
        assert "InternalError" in ask(amqp_url)["body"]
    (letter,) = dead(amqp_url, "list")
    assert (letter["reason"], letter["vendor"], letter["message"]) == (
        "failed",
        "com.acme",
        "Raises",
    )
    assert (letter["station"], letter["ocpp_version"], letter["ocpp_message_id"]) == (
        "CP-1",
        "ocpp1.6",
        "d-1",
    )
    assert dead(amqp_url, "replay")[0]["replayed"] == 1
    assert dead(amqp_url, "list") == []
    with WorkerProcess(TARGET, amqp_url, dialect=dialect) as worker:
        worker.until("request dead-lettered")
        assert worker.stop() == 0
        assert (worker.counts["unasked"], worker.counts["replied"], worker.counts["foreign"]) == (
            1,
            0,
            0,
        )
    (again,) = dead(amqp_url, "list")
    assert (again["reason"], again["station"], again["replayed"]) == ("failed", "CP-1", 1)
