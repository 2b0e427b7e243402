"""What a person finds in the log who looks for the cause of a failure."""

import json
from pathlib import Path

import pytest

from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import dtbridge
from tests.integration.support import WorkerProcess

VENDOR = """\
import logging
from bridge import Call, Retry, Router

router = Router("com.acme")
log = logging.getLogger("shop")


def price(meter):
    return {"kWh": 3}[meter]


@router.on("Fails")
async def tariff(call: Call) -> int:
    log.info("asked for a tariff")
    return price("gas")


@router.on("Thread")
def tariff_in_a_thread(call: Call) -> int:
    log.info("asked in a thread")
    return price("water")


@router.on("Later")
async def later(call: Call) -> str:
    if call.attempt > 1:
        return "done"
    try:
        price("gas")
    except KeyError as error:
        raise Retry(0.1, "the price list is not there") from error
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vendor.py").write_text(VENDOR)
    return tmp_path


def ask(url: str, message: str) -> str:
    arguments = ["--station", "CP1", "--vendor", "com.acme", "--message", message]
    done = dtbridge("send", *arguments, "--amqp-url", url)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("message", "handler", "line"), [("Fails", "tariff", 12), ("Thread", "tariff_in_a_thread", 18)]
)
def test_a_failure_is_found_to_the_line_of_its_handler(
    amqp_url: str, folder: Path, message: str, handler: str, line: int
) -> None:
    with WorkerProcess("vendor:router", amqp_url, folder=folder) as worker:
        told = ask(amqp_url, message)
        failed = worker.until("request dead-lettered")
    assert "InternalError" in told
    assert "KeyError" not in told
    assert failed["level"] == "error"
    vendor = folder / "vendor.py"
    assert (failed["handler"], failed["defined_at"], failed["at"]) == (
        f"vendor.{handler}",
        f"{vendor}:{line}",
        f"{vendor}:9 in price, called from {vendor}:{line + 3} in {handler}",
    )
    first, *_, last = failed["exception"].splitlines()[1:]
    assert f'vendor.py", line {line + 3}, in {handler}' in first
    assert last.startswith("KeyError: ")
    (own,) = [each for each in worker.log if each["event"].startswith("asked")]
    for key in ("station", "vendor", "message", "correlation_id"):
        assert own[key] == failed[key]
    assert own["message"] == message


def test_a_retry_says_why_and_when(amqp_url: str, folder: Path) -> None:
    with WorkerProcess("vendor:router", amqp_url, folder=folder) as worker:
        assert "done" in ask(amqp_url, "Later")
        again = worker.until("request will be tried again")
    assert again["level"] == "info"
    assert "the price list is not there" in again["reason"]
    assert "because of KeyError: 'gas'" in again["reason"]
    assert "exception" not in again


def test_an_access_log_has_a_line_for_each_request(amqp_url: str, folder: Path) -> None:
    settings = {"access_log": "1", "log_payloads": "com.acme", "processes": "2"}
    with WorkerProcess("vendor:router", amqp_url, folder=folder, **settings) as workers:
        workers.until("consuming", 2)
        ask(amqp_url, "Fails")
        line = workers.until("request")
    assert (line["outcome"], line["error_code"], line["vendor"]) == (
        "failed",
        "InternalError",
        "com.acme",
    )
    assert json.loads(line["payload"])["messageId"] == "Fails"
    assert {each["process"] for each in workers.log if each["event"] == "consuming"} == {1, 2}
    assert line["process"] in {1, 2}
    assert "exception" not in line


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import json\n\njson.loads('{')\n", "JSONDecodeError: "),
        ("raise RuntimeError('the database is away')\n", "the database is away, at broken.py:1"),
        ("def a(:\n", ", at broken.py:1"),
        ("import no_such_library\n", "no module 'no_such_library', at broken.py:1"),
        (
            "from bridge import Router\nRouter('v').on('X')(lambda call, data: None)\n",
            ", at broken.py:2",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_file_and_line(
    tmp_path: Path, source: str, told: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    done = dtbridge("check", "broken:router", folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert ", at broken.py:" in done.stderr
    assert done.stderr.count("\n") == 1


def test_at_debug_its_whole_traceback_is_shown(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f():\n    raise KeyError('x')\nf()\n")
    arguments = ["run", "broken:router", "--log-level", "debug"]
    console = dtbridge(*arguments, "--log-format", "console", folder=tmp_path)
    assert console.stderr.startswith("Traceback (most recent call last):\n")
    assert 'broken.py", line 2, in f' in console.stderr
    assert console.stderr.splitlines()[-1].startswith("dtbridge: broken:router: importing broken ")
    record = json.loads(dtbridge(*arguments, "--log-format", "json", folder=tmp_path).stderr)
    assert 'broken.py", line 2, in f' in record["exception"]
    assert record["event"].endswith("KeyError: 'x', at broken.py:2")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--amqp-url", "amqp://127.0.0.1:{closed}", "--connect-timeout", "0.2"], 1, "no broker"),
        (["--prefetch", "many"], 2, "--prefetch"),
        (["--bogus"], 2, "No such option"),
        (["--idempotency", "mongo"], 2, "--idempotency"),
    ],
)
def test_a_start_that_fails_is_a_record_where_the_log_is_json(
    folder: Path, arguments: list[str], code: int, told: str
) -> None:
    (closed,) = free_ports(1)
    given = [each.format(closed=closed) for each in arguments]
    done = dtbridge("run", "vendor:router", "--log-format", "json", *given, folder=folder)
    assert done.returncode == code
    *_, last = map(json.loads, done.stderr.splitlines())
    assert told in last["event"]
    assert (last["level"], last["logger"], last["exit_code"]) == ("critical", "bridge.cli", code)
    shown = dtbridge("run", "vendor:router", "--log-format", "console", *given, folder=folder)
    assert shown.stderr.splitlines()[-1].startswith("dtbridge: ")
