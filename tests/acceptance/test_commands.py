"""run, send, check and demo, as a person or a deployment uses them."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from bridge.cli.main import application
from bridge.gateway.websocket.passwords import parse_password_file
from bridge.testing.rabbitmq import PrivateBroker, free_ports
from tests.acceptance.command import MODULE, SCRIPT, dtbridge
from tests.integration.support import PATIENCE, ROOT, WorkerProcess, clean_environment

VENDOR = "tests.integration.decision_table_vendors:routers"
LOAD = "tests.integration.load_vendors"


@pytest.fixture
def worker(amqp_url: str) -> Iterator[WorkerProcess]:
    with WorkerProcess(VENDOR, amqp_url) as worker:
        yield worker


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("command", [MODULE, SCRIPT])
def test_send_prints_the_answer_as_json(amqp_url: str, command: list[str]) -> None:
    data = '{"currency":"EUR","price":0.25}'
    arguments = ["--station", "CP1", "--vendor", "com.acme", "--message", "Value", "--data", data]
    done = dtbridge("send", *arguments, "--amqp-url", amqp_url, command=command)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "status": "Accepted",
        "data": {"currency": "EUR", "price": 0.5},
    }


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("data", ["-", "@data.json"])
@pytest.mark.parametrize("begins", ["", "\N{ZERO WIDTH NO-BREAK SPACE}"])
def test_data_comes_from_a_file_or_from_standard_input(
    amqp_url: str, tmp_path: Path, data: str, begins: str
) -> None:
    text = begins + '{"currency":"EUR","price":0.25}'
    (tmp_path / "data.json").write_text(text, encoding="utf-8")
    arguments = ["--station", "CP1", "--vendor", "com.acme", "--message", "Value", "--data", data]
    done = dtbridge("send", *arguments, "--amqp-url", amqp_url, folder=tmp_path, given=text)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["data"] == {"currency": "EUR", "price": 0.5}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("version", "code"), [("ocpp1.6", "InternalError"), ("ocpp2.1", "InternalError")]
)
def test_send_ends_with_3_for_a_callerror_and_prints_it(
    amqp_url: str, version: str, code: str
) -> None:
    arguments = [
        "--station",
        "CP1",
        "--vendor",
        "com.acme",
        "--message",
        "Raises",
        "--ocpp-version",
        version,
    ]
    done = dtbridge("send", *arguments, "--amqp-url", amqp_url)
    assert (done.returncode, done.stderr) == (3, "")
    description = "The request could not be processed."
    assert json.loads(done.stdout) == {
        "errorCode": code,
        "errorDescription": description,
        "errorDetails": {},
    }


def test_send_ends_with_4_when_nobody_answers_in_time(amqp_url: str) -> None:
    with WorkerProcess(VENDOR, amqp_url):
        pass  # it leaves its queues behind
    done = dtbridge(
        *[
            "send",
            "--station",
            "CP1",
            "--vendor",
            "com.acme",
            "--message",
            "Value",
            "--timeout",
            "0.3",
        ],
        "--amqp-url",
        amqp_url,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        4,
        "",
        (
            "dtbridge: no answer within 0.3 s; does a worker run that handles it? `dtbridge top` "
            "shows them, and `dtbridge dead list` what they could not handle\n"
        ),
    )


@pytest.mark.usefixtures("worker")
def test_send_takes_everything_from_the_environment(amqp_url: str) -> None:
    settings = {
        "DTBRIDGE_AMQP_URL": amqp_url,
        "DTBRIDGE_STATION": "CP1",
        "DTBRIDGE_VENDOR": "com.acme",
        "DTBRIDGE_MESSAGE": "Thread",
        "DTBRIDGE_DATA": '"abc"',
        "DTBRIDGE_OCPP_VERSION": "ocpp1.6",
        "DTBRIDGE_TIMEOUT": "10",
    }
    done = dtbridge("send", settings=settings)
    assert json.loads(done.stdout) == {"status": "Accepted", "data": "ABC"}


def test_run_takes_everything_from_the_environment(amqp_url: str) -> None:
    (closed,) = free_ports(1)
    settings = {
        "DTBRIDGE_TARGETS": "examples.acme:router tests.integration.load_vendors:routers",
        "DTBRIDGE_AMQP_URL": f"amqp://127.0.0.1:{closed}/ {amqp_url}",
        "DTBRIDGE_PREFIX": "other",
        "DTBRIDGE_QUEUE_TYPE": "classic",
        "DTBRIDGE_LOG_FORMAT": "json",
        "DTBRIDGE_PREFETCH": "10",
    }
    process = subprocess.Popen(
        [*SCRIPT, "run"],
        env=clean_environment(settings),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as log:
        consuming = next(line for line in map(json.loads, log) if line["event"] == "consuming")
        assert consuming["reason"].startswith("from 5 queues at ")
        done = dtbridge(
            *[
                "send",
                "--station",
                "CP1",
                "--vendor",
                "com.acme",
                "--message",
                "GetTariff",
                "--prefix",
                "other",
            ],
            *("--data", '{"connectorId": 1}'),
            settings={"DTBRIDGE_AMQP_URL": amqp_url},
        )
        assert json.loads(done.stdout)["data"] == {"currency": "EUR", "energyPrice": 0.49}
        process.terminate()
        assert [line["event"] for line in map(json.loads, log)][-2:] == ["stopped", "drained"]
    assert process.wait(PATIENCE) == 0


def test_every_option_is_an_environment_variable_and_every_variable_has_one_meaning() -> None:
    """What means something else in a command than in others has the command's name before it."""
    meanings: dict[str, set[str]] = {}
    for name, command in typer.main.get_group(application()).commands.items():
        own = name.partition("-")[0].upper()
        for parameter in command.params:
            if parameter.name != "help":
                option = parameter.opts[0].removeprefix("--").replace("-", "_").upper()
                assert parameter.envvar in {f"DTBRIDGE_{option}", f"DTBRIDGE_{own}_{option}"}
                meanings.setdefault(parameter.envvar, set()).add(str(parameter.name))
    assert {len(names) for names in meanings.values()} == {1}
    assert len(meanings) > 20


def test_the_pages_of_settings_and_of_running_list_every_option() -> None:
    page = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("settings", "running"))
    for name in ("run", "gateway", "password"):
        command = typer.main.get_group(application()).commands[name]
        options = {
            parameter.opts[0] for parameter in command.params if parameter.opts[0].startswith("--")
        } - {"--help"}
        assert {option for option in options if option not in page} == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_well_on_a_signal(amqp_url: str, number: signal.Signals) -> None:
    with WorkerProcess(VENDOR, amqp_url) as worker:
        worker.signal(number)
        assert worker.wait() == 0
    assert [line["event"] for line in worker.log if line["event"] != "handles"] == [
        "starting",
        "connecting",
        "consuming",
        "draining",
        "stopped",
        "drained",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_well_on_a_signal_while_it_looks_for_a_broker(number: signal.Signals) -> None:
    (closed,) = free_ports(1)
    settings = {
        "DTBRIDGE_AMQP_URL": f"amqp://127.0.0.1:{closed}/",
        "DTBRIDGE_CONNECT_TIMEOUT": "60",
    }
    process = subprocess.Popen(
        [*MODULE, "run", VENDOR],
        env=clean_environment(settings),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as log:
        next(log)  # connecting
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0


def test_several_processes_stop_together(amqp_url: str) -> None:
    with WorkerProcess(VENDOR, amqp_url, processes=2) as workers:
        workers.until("consuming", 2)
        assert workers.stop() == 0
    assert sum(line["event"] == "drained" for line in workers.log) == 2


def test_check_lists_handlers_with_their_types_and_needs_no_broker() -> None:
    done = dtbridge("check", "examples.acme:router", f"{LOAD}:routers", folder=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [re.split(r"\s*[│┃]\s*", line)[1:-1] for line in done.stdout.splitlines()]
    assert [row for row in rows if row] == [
        ["vendor", "message", "data", "kind", "timeout", "handler", "queue"],
        [
            "com.acme",
            "GetTariff",
            "TariffQuery",
            "async",
            "20 s",
            "examples.acme.get_tariff",
            "datatransfer.com.acme",
        ],
        ["hostile", "Read", "Reading", "async", "20 s", f"{LOAD}.read", "datatransfer.hostile"],
        ["hostile", "Text", "str | None", "async", "20 s", f"{LOAD}.text", "datatransfer.hostile"],
        [
            "hostile",
            "(default)",
            "Any",
            "async",
            "20 s",
            f"{LOAD}.anything",
            "datatransfer.hostile",
        ],
        ["slow", "(default)", "int", "async", "60 s", f"{LOAD}.take_a_while", "datatransfer.slow"],
        ["hanging", "(default)", "-", "async", "60 s", f"{LOAD}.hang_once", "datatransfer.hanging"],
    ]


def test_check_lists_the_vendor_packs() -> None:
    done = dtbridge("check", "bridge.vendors")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("plug_and_charge", "TriggerMessage", "specified", "observed"):
        assert word in done.stdout


def test_the_demo_runs_on_a_given_broker_and_leaves_nothing_behind(broker: PrivateBroker) -> None:
    url = broker.add_vhost("demo")
    done = dtbridge("demo", "--count", "200", "--pace", "0", settings={"DTBRIDGE_AMQP_URL": url})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every request got exactly the answer it should." in done.stdout
    assert broker.eval('length(rabbit_amqqueue:list(<<"demo">>))') == "0"
    named = (
        '[{name, {resource, _, exchange, Name}}] <- rabbit_exchange:info_all(<<"demo">>, [name])'
    )
    assert (
        broker.eval(f'[Name || {named}, binary:match(Name, <<"datatransfer">>) =/= nomatch]')
        == "[]"
    )
    broker.delete_vhost("demo")


@pytest.mark.parametrize(
    ("arguments", "given", "password"),
    [
        ((), "secret\n", b"secret"),
        ((), "with : and blank \r\n", b"with : and blank "),
        (("--hex",), "00ffCC\n", b"\x00\xff\xcc"),
    ],
)
def test_password_prints_a_line_of_the_password_file(
    arguments: tuple[str, ...], given: str, password: bytes
) -> None:
    command = [*MODULE, "password", "--station", "CP:1", *arguments]
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=True, env=clean_environment()
    )
    hashes = parse_password_file(done.stdout)
    assert list(hashes) == ["CP:1"]
    assert hashes["CP:1"].fits(password)


@pytest.mark.parametrize("station", ["", "#1", " 1", "1\n2", "1\u2028"])
def test_password_refuses_a_station_that_no_line_of_the_file_can_name(station: str) -> None:
    command = [*MODULE, "password", "--station", station]
    done = subprocess.run(
        command, input="secret\n", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("dtbridge: a line of the password file cannot name this station")


@pytest.mark.parametrize(
    ("given", "told"), [("\n", "the password is empty"), ("xyz\n", "is not hexadecimal")]
)
def test_password_refuses_what_is_none(given: str, told: str) -> None:
    command = [*MODULE, "password", "--station", "CP001", "--hex"]
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, env=clean_environment()
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_no_arguments_show_the_commands() -> None:
    done = dtbridge()
    assert done.returncode == 0
    assert all(
        re.search(rf"^  {name} ", done.stdout, re.MULTILINE)
        for name in ("run", "gateway", "password", "send", "send-to-station", "check", "demo")
    )


def test_make_alone_lists_the_commands() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listed = [line.split()[:2] for line in done.stdout.splitlines()]
    assert {"demo", "test", "lint", "types", "check"} <= {
        name for word, name in listed if word == "make"
    }
