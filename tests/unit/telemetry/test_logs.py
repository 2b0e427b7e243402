"""What is logged, where it goes, and who decides that: the application, or one of the commands."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
import structlog

from bridge.telemetry.logs import get_logger

NAME = "bridge.somewhere"
log = get_logger(NAME)


def run(program: str) -> subprocess.CompletedProcess[str]:
    """A program to its end."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)


# ---- a library is silent ----

IN_MEMORY = """
import asyncio
from bridge import Client, DataTransferRequest
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.gateway import GatewayLink, StationOffline
from bridge.testing.memory_broker import MemoryBroker
from bridge.testing.memory_transport import MemoryTransport

async def main():
    broker = MemoryBroker()
    broker.declare(worker_topology(Native(), ["v"]))
    async with Client(transport=MemoryTransport(broker)) as client:
        async with GatewayLink(transport=MemoryTransport(broker)):
            broker.cut()
            await asyncio.sleep(0.1)
            try:
                await client.send_to_station("CP1", DataTransferRequest("v", "m"), timeout=1.0)
            except StationOffline:
                return
    raise AssertionError

asyncio.run(main())
"""

UNREACHABLE = """
import asyncio
from bridge import Client
from bridge.gateway import GatewayLink
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.transport import BrokerUnreachable

async def start(kind, port):
    urls = parse_urls([f"amqp://127.0.0.1:{port}/"])
    try:
        async with kind(transport=RabbitTransport(urls, start_timeout=0.2)) as it:
            if kind is Client:
                await it.connect()
            raise AssertionError
    except BrokerUnreachable:
        pass

async def main():
    def hang_up(reader, writer):
        writer.close()
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for kind in (Client, GatewayLink):
        await start(kind, port)
    server.close()
    await server.wait_closed()
    for kind in (Client, GatewayLink):
        await start(kind, port)

asyncio.run(main())
"""

EVERY_MODULE = """
import importlib, pkgutil
import bridge
for module in pkgutil.walk_packages(bridge.__path__, "bridge."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""

LOGGED = """
from bridge.telemetry.logs import get_logger
log = get_logger("bridge.somewhere")
log.warning("it blocks")
try:
    raise ValueError
except ValueError:
    log.exception("it failed")
"""


@pytest.mark.parametrize(
    "program",
    [IN_MEMORY, UNREACHABLE, EVERY_MODULE, LOGGED],
    ids=["in memory", "unreachable", "import", "logged"],
)
def test_a_program_that_configures_no_logging_sees_nothing_of_it(program: str) -> None:
    ended = run(program)
    assert (ended.stdout, ended.stderr) == ("", "")


def test_how_structlog_is_configured_is_of_no_account(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory())
    try:
        log.warning("it blocks")
    finally:
        structlog.reset_defaults()
    assert capfd.readouterr() == ("", "")
    assert [record.message for record in caplog.records] == ["it blocks"]


# ---- what a record says ----


def test_a_line_reads_well_in_a_program_with_the_plainest_logging() -> None:
    ended = run(
        "import logging\n"
        "from bridge.telemetry.logs import get_logger\n"
        "logging.basicConfig(level='INFO')\n"
        "get_logger('bridge.worker').info('no session', url='amqp://broker/', failures=3)\n"
    )
    assert ended.stdout == ""
    assert ended.stderr == "INFO:bridge.worker:no session url='amqp://broker/' failures=3\n"


@pytest.mark.parametrize(
    ("event", "pairs", "message"),
    [
        ("100 % done", {}, "100 % done"),
        ("100 % done", {"of": "5 %s"}, "100 % done of='5 %s'"),
        ("odd", {"%s": 1}, "odd %s=1"),
        ("one mapping", {"facts": {"a": 1}}, "one mapping facts={'a': 1}"),
        ("an empty one", {"facts": {}}, "an empty one facts={}"),
        ("two lines", {"text": "a\nb"}, r"two lines text='a\nb'"),
        ("no UTF-8", {"text": "\udcff"}, r"no UTF-8 text='\udcff'"),
    ],
)
def test_the_message_is_the_event_and_its_pairs(
    caplog: pytest.LogCaptureFixture, event: str, pairs: dict[str, Any], message: str
) -> None:
    log.warning(event, **pairs)
    assert [record.getMessage() for record in caplog.records] == [message]


def test_tools_that_group_by_message_find_what_is_the_same_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for failures in (1, 2):
        log.warning("no session", failures=failures)
    assert {record.msg for record in caplog.records} == {"no session failures=%r"}


def test_a_handler_after_structure_finds_the_parts(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever they are called: a record has attributes `name`, `args` and `message` of its own."""
    log.warning("names", name="n", args=(1,), message="m", event="e", self="s", level=2)
    [record] = caplog.records
    assert record.__dict__["bridge"] == {
        "name": "n",
        "args": (1,),
        "message": "m",
        "event": "names",
        "self": "s",
        "level": 2,
    }
    assert (record.name, record.levelname) == (NAME, "WARNING")


def test_a_failure_is_on_the_record(caplog: pytest.LogCaptureFixture) -> None:
    """As error trackers that listen to logging want it."""
    failure = ValueError("odd")
    try:
        raise failure
    except ValueError:
        log.exception("it failed", station="CP1")
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.exc_info[1] is failure
    assert record.getMessage() == "it failed station='CP1'"


def test_a_filter_of_the_application_that_fails_costs_its_line_alone() -> None:
    def fails(_: logging.LogRecord) -> bool:
        raise RuntimeError

    logger = logging.getLogger(NAME)
    logger.addFilter(fails)
    try:
        log.error("lost")
    finally:
        logger.removeFilter(fails)


def test_what_the_application_has_bound_is_there(caplog: pytest.LogCaptureFixture) -> None:
    with structlog.contextvars.bound_contextvars(tenant="north", event="none of ours"):
        log.warning("own", tenant="south")
        log.warning("bound", station="CP1")
    assert [record.getMessage() for record in caplog.records] == [
        "own tenant='south'",
        "bound station='CP1' tenant='north'",
    ]
    assert caplog.records[1].__dict__["bridge"] == {
        "station": "CP1",
        "event": "bound",
        "tenant": "north",
    }


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "exception"])
def test_a_record_tells_who_logged_it(caplog: pytest.LogCaptureFixture, level: str) -> None:
    caplog.set_level(logging.DEBUG)
    getattr(log, level)("here")
    [record] = caplog.records
    assert record.funcName == "test_a_record_tells_who_logged_it"
    assert record.pathname == __file__
    assert record.levelname == {"exception": "ERROR"}.get(level, level.upper())


def test_a_line_that_nobody_wants_costs_next_to_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("structlog.contextvars.get_contextvars")  # the dearest part
    caplog.set_level(logging.INFO)
    log.debug("message ignored", station="CP1")
    with pytest.raises(AttributeError):
        log.info("message taken")


def test_an_application_may_configure_logging_after_the_import() -> None:
    """`logging.config` disables every logger that is there, unless told not to."""
    ended = run(
        "import logging.config\n"
        "from bridge.telemetry.logs import get_logger\n"
        "log = get_logger('bridge.worker')\n"
        "handlers = {'all': {'class': 'logging.StreamHandler'}}\n"
        "root = {'handlers': ['all']}\n"
        "logging.config.dictConfig({'version': 1, 'handlers': handlers, 'root': root})\n"
        "log.warning('it blocks')\n"
    )
    assert ended.stderr == "it blocks\n"


# ---- what the commands show ----

LINES = """
import logging, structlog, sys, warnings
from bridge.telemetry.logs import LogFormat, LogLevel, configure, get_logger
log = get_logger("bridge.worker")
configure(LogFormat(sys.argv[1]), LogLevel.INFO)
log.debug("not shown")
log.info("plain")
log.info("100 %", reason="from 5 queues", name="n", list=[1, "b"], none=None, kind=int)
with structlog.contextvars.bound_contextvars(tenant="north"):
    log.warning("bound", station="CP1")
    structlog.get_logger("mine").info("bound", c=3)
    logging.getLogger("foreign").warning("bound %s", 1)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", url="u")
    structlog.get_logger("mine").exception("failed")
    logging.getLogger("foreign").exception("failed %d", 3)
logging.getLogger("foreign").info("odd", extra={"k": 1, "bridge": "of the river"})
logging.getLogger("foreign").debug("not shown")
structlog.get_logger("mine").debug("not shown")
for name in ("aio_pika", "aiormq", "websockets"):
    logging.getLogger(name).error("not shown")
warnings.warn("careful")
"""


def lines(log_format: str) -> list[str]:
    command = [sys.executable, "-c", LINES, log_format]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == ""
    return ended.stderr.splitlines()


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_json_lines_have_the_pairs_first_then_the_event_its_logger_level_and_time(
    log_format: str,
) -> None:
    found = [json.loads(line) for line in lines(log_format)]
    keys = [list(line) for line in found]
    for line in found:
        assert line.pop("timestamp").endswith("Z")
        if "exception" in line:
            assert line.pop("exception").startswith("Traceback (most recent call last):\n")
    always = ["event", "logger", "level", "timestamp"]
    assert keys == [
        always,
        ["reason", "name", "list", "none", "kind", *always],
        ["station", "event", "tenant", *always[1:]],
        ["c", "event", "tenant", *always[1:]],
        ["event", "tenant", *always[1:]],
        ["url", *always, "exception"],
        [*always, "exception"],
        [*always, "exception"],
        always,
        always,
    ]
    ours, mine, foreign = ({"logger": name} for name in ("bridge.worker", "mine", "foreign"))
    odd = {"name": "n", "list": [1, "b"], "none": None, "kind": "<class 'int'>"}
    assert found[:-1] == [
        {"event": "plain", "level": "info"} | ours,
        {"reason": "from 5 queues", **odd, "event": "100 %", "level": "info"} | ours,
        {"station": "CP1", "event": "bound", "tenant": "north", "level": "warning"} | ours,
        {"c": 3, "event": "bound", "tenant": "north", "level": "info"} | mine,
        {"event": "bound 1", "tenant": "north", "level": "warning"} | foreign,
        {"url": "u", "event": "failed", "level": "error"} | ours,
        {"event": "failed", "level": "error"} | mine,
        {"event": "failed 3", "level": "error"} | foreign,
        {"event": "odd", "level": "info"} | foreign,
    ]
    assert (found[-1]["logger"], found[-1]["level"]) == ("py.warnings", "warning")
    assert "UserWarning: careful" in found[-1]["event"]


def test_console_lines_have_the_event_first_then_its_logger_and_pairs() -> None:
    text = "\n".join(line.partition("Z ")[2] or line for line in lines("console"))
    assert "[info     ] plain                          [bridge.worker]\n" in text
    assert (
        "[info     ] 100 %                          [bridge.worker] kind=<class 'int'> "
        "list=[1, 'b'] name=n none=None reason='from 5 queues'\n"
    ) in text
    assert "[warning  ] bound 1                        [foreign] tenant=north\n" in text
    assert "[error    ] failed                         [bridge.worker] url=u\nTraceback (" in text
    assert "not shown" not in text


COMMAND = """
import logging, logging.config, os, sys, warnings
import structlog
from bridge.telemetry.logs import LogFormat, LogLevel, configure, configuring, get_logger
log = get_logger("bridge.worker")
"""


BASIC_CONFIG = "logging.basicConfig(stream=sys.stdout, level='DEBUG', format='%(message)s')"
DICT_CONFIG = """logging.config.dictConfig({
        "version": 1,
        "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
        "root": {"handlers": ["out"], "level": "DEBUG"},
    })"""


@pytest.mark.parametrize("set_up", [BASIC_CONFIG, DICT_CONFIG])
def test_handlers_that_modules_set_up_stay_and_get_what_they_want(set_up: str) -> None:
    ended = run(
        f"{COMMAND}"
        "with configuring(LogFormat.JSON, LogLevel.INFO):\n"
        f"    {set_up}\n"
        "log.debug('for one')\n"
        "log.info('for both', station='CP1')\n"
        "warnings.warn('careful')\n"
    )
    assert ended.stdout.startswith("for one\nfor both station='CP1'\n")
    assert "UserWarning: careful" in ended.stdout
    event, warning = [json.loads(line)["event"] for line in ended.stderr.splitlines()]
    assert event == "for both"
    assert "UserWarning: careful" in warning


def test_a_command_that_configures_twice_writes_each_line_once() -> None:
    ended = run(
        f"{COMMAND}"
        "configure(LogFormat.JSON, LogLevel.INFO)\n"
        "configure(LogFormat.CONSOLE, LogLevel.WARNING)\n"
        "log.info('not shown')\n"
        "log.warning('shown')\n"
    )
    [line] = ended.stderr.splitlines()
    assert "[warning  ] shown " in line


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_warning_that_a_module_gives_while_it_loads_is_a_line(log_format: str) -> None:
    ended = run(
        f"{COMMAND}"
        f"with configuring(LogFormat({log_format!r}), LogLevel.INFO):\n"
        "    warnings.warn('careful')\n"
        "    os.write(2, b'loaded: ')\n"
        "log.info('running')\n"
    )
    warning, running = ended.stderr.split("loaded: ")
    assert "UserWarning: careful" in warning
    assert warning.startswith("{") == (log_format == "json")
    assert "running" in running


def test_without_a_format_the_applications_logging_is_left_alone() -> None:
    ended = run(
        f"{COMMAND}"
        "def state():\n"
        "    names = [None, 'bridge', 'py.warnings', 'aio_pika', 'aiormq', 'websockets']\n"
        "    loggers = [logging.getLogger(name) for name in names]\n"
        "    levels = [(each.level, each.handlers[:]) for each in loggers]\n"
        "    return levels, warnings.showwarning, structlog.get_config()\n"
        "before = state()\n"
        "with configuring(LogFormat.NONE, LogLevel.DEBUG):\n"
        "    log.error('while it loads')\n"
        "log.error('and later')\n"
        "assert state() == before\n"
    )
    assert (ended.stdout, ended.stderr) == ("", "")
