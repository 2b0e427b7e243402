"""`dtbridge replay-check`: recorded requests, tried on handlers of today."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from bridge.request.outcome import COULD_NOT_PROCESS
from tests.acceptance.command import dtbridge, sentence
from tests.acceptance.test_tap import Tap, send
from tests.integration.support import WorkerProcess

HANDLERS = """\
from bridge import Call, Rejected, Retry, Router
router = Router('com.acme')
other = Router('EN+')
both = [router, other]

@router.on('Price')
async def price(call: Call, data: dict) -> dict:
    return {'price': data['kWh'] * RATE, 'at': [{'id': call.ocpp_message_id, 'by': 'us'}]}

@router.on('Break')
def break_(call: Call) -> None:
    raise KeyError('currency')

@router.on('Later')
async def later(call: Call) -> None:
    raise Retry(5, 'the database is away')

@other.default
async def anything(call: Call) -> str:
    return 'x'
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "then.py").write_text(f"RATE = 2\n{HANDLERS}")
    (tmp_path / "now.py").write_text(f"RATE = 3\n{HANDLERS}")
    return tmp_path


def event(**changes: Any) -> dict[str, Any]:
    """As recorded from the handlers of then."""
    request = {"vendorId": "com.acme", "messageId": "Price", "data": {"kWh": 10}}
    answer = {"status": "Accepted", "data": {"at": [{"by": "us", "id": "42"}], "price": 20}}
    whole = {
        "time": "2026-03-01T08:15:00.123Z",
        "outcome": "accepted",
        "station": "CP1",
        "vendor": "com.acme",
        "message": "Price",
        "ocpp_version": "ocpp2.0.1",
        "ocpp_message_id": "42",
        "request": json.dumps(request),
        "answer": json.dumps(answer),
    } | changes
    return {name: value for name, value in whole.items() if value is not None}


def asked(message: str, vendor: str = "com.acme") -> dict[str, str]:
    return {
        "message": message,
        "vendor": vendor,
        "request": json.dumps({"vendorId": vendor, "messageId": message}),
    }


def record(folder: Path, *events: dict[str, Any] | str) -> str:
    file = folder / "events.jsonl"
    lines = (each if isinstance(each, str) else json.dumps(each) for each in events)
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


def test_answers_that_are_the_same_end_with_0(folder: Path) -> None:
    file = record(folder, event(), event())
    done = dtbridge("replay-check", "then:router", file, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "2 compared, 2 the same, 0 different.\n"


def test_answers_that_differ_are_shown_and_end_with_1(folder: Path) -> None:
    file = record(folder, event(), event(**asked("x", "EN+"), answer='{"status":"Accepted"}'))
    done = dtbridge("replay-check", "now:both", file, folder=folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "line 1: com.acme Price from CP1 (ocpp2.0.1, id 42, 2026-03-01T08:15:00.123Z)",
        "    data.price: 20 → 30",
        "line 2: EN+ x from CP1 (ocpp2.0.1, id 42, 2026-03-01T08:15:00.123Z)",
        '    data: (absent) → "x"',
        "2 compared, 0 the same, 2 different.",
    ]


@pytest.mark.parametrize("path", ["data.price", "data", "/data/price", "*.price"])
def test_places_that_may_differ_are_left_out(folder: Path, path: str) -> None:
    file = record(folder, event())
    done = dtbridge("replay-check", "now:router", file, "--ignore", path, folder=folder)
    assert (done.returncode, done.stdout) == (0, "1 compared, 1 the same, 0 different.\n")


def test_what_a_handler_raises_is_shown_with_file_and_line(folder: Path) -> None:
    answer = '{"status":"Accepted"}'
    error = {"errorCode": "InternalError", "errorDescription": COULD_NOT_PROCESS}
    failed = json.dumps(error | {"errorDetails": {}})
    file = record(
        folder,
        event(**asked("Break"), answer=answer),
        event(**asked("Break"), answer=failed, outcome="failed"),
        event(**asked("Later"), answer=answer),
    )
    done = dtbridge("replay-check", "now:router", file, folder=folder)
    lines = done.stdout.splitlines()
    number = (folder / "now.py").read_text().splitlines().index(
        "    raise KeyError('currency')"
    ) + 1
    raised = f"    raised KeyError: 'currency' ({folder / 'now.py'}:{number} in break_)"
    assert lines[1:3] == ["    answer: Accepted → CALLERROR InternalError", raised]
    assert lines[3].endswith(": the same answer, and it fails again")
    assert lines[4] == raised
    assert lines[6] == "    answer: Accepted → another try after 5 s"
    assert "raised Retry: " in lines[7]
    assert lines[-1] == "3 compared, 1 the same (1 fail again), 2 different."
    assert done.returncode == 1


def test_what_cannot_be_compared_is_counted(folder: Path) -> None:
    file = record(
        folder,
        event(),
        event(request=None),
        event(answer=None),
        event(outcome="late", answer=None),
        event(outcome="absorbed"),
        event(station=""),
        event(vendor="EN+"),
        "",
        "{",
        "[]",
        event(ocpp_version="ocpp9"),
        "\x1b[2J",
    )
    arguments = ["then:both", file, "--vendor", "COM.acme"]
    done = dtbridge("replay-check", *arguments, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    first, summary = done.stdout.splitlines()
    assert first.startswith("line 9 is left out: it is no event: ")
    assert summary == (
        "1 compared, 1 the same, 0 different, 2 without bodies, "
        "3 not handled then, or not answered, 1 of other vendors, 4 broken lines."
    )


def test_it_can_end_early(folder: Path) -> None:
    file = record(folder, *[event()] * 5)
    done = dtbridge("replay-check", "now:router", file, "--stop-at", "2", folder=folder)
    assert done.stdout.splitlines()[-1] == "2 compared, 0 the same, 2 different."


def test_nothing_of_a_recording_reaches_the_terminal_as_a_command(folder: Path) -> None:
    wild = "\x1b[2J\x9b\u202e\n"
    answer = json.dumps({"status": "Accepted", "data": {wild: wild}})
    changes = {"station": wild, "vendor": wild, "ocpp_message_id": wild, "time": wild}
    done = dtbridge(
        "replay-check", "now:router", record(folder, event(answer=answer, **changes)), folder=folder
    )
    assert done.returncode == 1
    assert all(line.isprintable() for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("then:router nowhere.jsonl", "nowhere.jsonl cannot be read: No such file"),
        ("then:router . ", ". cannot be read: Is a directory"),
        ("then:router empty.jsonl", "nothing in empty.jsonl can be compared"),
        ("then:router empty.jsonl --ignore a..b", "'a..b' is no path such as"),
        ("then empty.jsonl", "'then' is not MODULE:NAME"),
        ("then:router empty.jsonl --stop-at 0", "--stop-at"),
        ("then:router", "Missing argument 'FILE.jsonl'"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(folder: Path, arguments: str, told: str) -> None:
    (folder / "empty.jsonl").write_text("")
    done = dtbridge("replay-check", *arguments.split(), folder=folder)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_vendor_of_which_there_is_nothing_is_told_with_those_that_are_there(
    folder: Path,
) -> None:
    file = record(folder, event(), event(vendor="EN+"))
    done = dtbridge("replay-check", "then:router", file, "--vendor", "com.amce", folder=folder)
    assert done.returncode == 2
    assert "is of the vendor com.amce: there are 'EN+', 'com.acme'" in done.stderr


def test_a_recording_without_bodies_is_no_success(folder: Path) -> None:
    file = record(folder, event(request=None, answer=None))
    done = dtbridge("replay-check", "then:router", file, folder=folder)
    assert done.returncode == 2
    assert "--events all --event-bodies" in done.stderr


def test_what_a_tap_has_saved_is_what_this_reads(amqp_url: str, folder: Path) -> None:
    file = folder / "saved.jsonl"
    worker = WorkerProcess(
        "then:router", amqp_url, folder=folder, events="all", event_bodies="true"
    )
    with worker, Tap(amqp_url, "--save", str(file)) as tap:
        send(amqp_url, "Break")
        send(amqp_url, "Nobody")
        tap.lines(3)
        assert tap.end(signal.SIGTERM) == 0
    done = dtbridge("replay-check", "then:router", str(file), folder=folder)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "2 compared, 2 the same (1 fail again), 0 different."
    sentence_of_nobody = dtbridge("replay-check", "nowhere:router", str(file), folder=folder)
    assert "there is no module 'nowhere'" in sentence(sentence_of_nobody)
