"""A real RabbitMQ for every test that asks for one, and a check that nothing is left behind.

Most tests want `amqp_url`: a virtual host of their own (12 ms) on a node that all tests share (5 s,
once). A test that breaks its broker takes `breakable_broker`.
"""

import gc
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bridge.compiled.switch import PURE
from bridge.dialects.partitions import PLUGIN
from bridge.testing.rabbitmq import PrivateBroker, PrivateCluster
from hatch_build import outdated
from tests.acceptance import forks
from tests.postgres_server import PostgresServer

pytest.register_assert_rewrite(
    "bridge.testing.conformance"
)  # as the plugin of an installation does

# How long an example takes depends on the machine, so Hypothesis sets no deadline.
settings.register_profile("dtbridge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dtbridge")

SESSION_MARK = "DTBRIDGE_TEST_SESSION"
"""Every process we start inherits this variable, so the leak check knows even an orphan."""


MEMORY = Path("/dev/shm")
"""A file system in memory, as Linux has it."""
ROOM = 4 << 30
"""Bytes that it must have left: each worker's servers write some hundred megabytes at most."""


OUR_VARIABLES = {"DTBRIDGE_RABBITMQ_SERVER", "DTBRIDGE_PURE"}
"""Variables that say how the tests are run; all others configure a worker."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("RabbitMQ")
    group.addoption(
        "--amqp-url",
        default=os.environ.get("DTBRIDGE_TEST_AMQP_URL"),
        help="run the tests that need no node of their own on this broker, whose management API "
        "must be enabled (also DTBRIDGE_TEST_AMQP_URL; the API is looked for on port 15672 or at "
        "DTBRIDGE_TEST_MANAGEMENT_URL)",
    )
    group.addoption(
        "--rabbitmq-server",
        help="the rabbitmq-server script, the folder RabbitMQ was unpacked into, or the root "
        "folder of another Linux that has it (also DTBRIDGE_RABBITMQ_SERVER)",
    )


OWN_NODE = frozenset({"broker", "tls_broker", "cluster", "breakable_broker", "managed_broker"})
"""The fixtures that start a RabbitMQ, whether one is given or not."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m "not own_node"` leaves what a broker that is given will do for."""
    for item in items:
        if OWN_NODE.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("own_node")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What the tests' modules and their thousands of items are made of stays to the end.

    So Python's collector of cycles need not look at it: neither while it grows, nor later.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Half of a surrogate pair in what a test has written has no form between two processes."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts background jobs with SIGINT ignored, nohup all with SIGHUP, and children
    # inherit that. A test of Ctrl-C would not end, and one of a closed terminal fail.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if (changed := outdated()) and not PURE:
        names = ", ".join(changed)
        raise pytest.UsageError(
            f"{names}: changed since compiled; run `make test`, or python hatch_build.py"
        )
    os.environ[SESSION_MARK] = secrets.token_hex(8)
    _keep_servers_in_memory()
    server = config.getoption("--rabbitmq-server")
    if server:
        os.environ["DTBRIDGE_RABBITMQ_SERVER"] = str(Path(server).absolute())
    # What the developer's shell configures for a worker must not reach the tests.
    for name in [name for name in os.environ if name.startswith("DTBRIDGE_")]:
        if not name.startswith("DTBRIDGE_TEST_") and name not in OUR_VARIABLES:
            del os.environ[name]


def _keep_servers_in_memory() -> None:
    """Have the servers write to memory, if there is room and nobody says where else (TMPDIR).

    Half of a node's time went into files and waiting for a disk. What a killed process has written
    stays there as well, and no test cuts the power. `tmp_path` stays where it is: pytest keeps it.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK):
        return
    if shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        tempfile.tempdir = str(MEMORY)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """No process that the suite has started, directly or not, may outlive it."""
    yield
    forks.stop()
    left = _marked_processes()
    deadline = time.monotonic() + 5.0
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = _marked_processes()
    assert not left, f"still running: {left}"


def _marked_processes() -> dict[int, str]:
    """Number → command line of every process with our mark; none on systems without /proc."""
    mark = f"{SESSION_MARK}={os.environ[SESSION_MARK]}".encode()
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                found[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                )
        except OSError:  # it has just ended, or is not ours
            continue
    return found


@pytest.fixture(scope="session")
def broker() -> Iterator[PrivateBroker]:
    """The node that all tests share. Do not stop it; at the end nobody may be connected."""
    with PrivateBroker(name="shared") as broker:
        yield broker
        _assert_no_connections(broker)


@pytest.fixture(scope="session")
def tls_broker() -> Iterator[PrivateBroker]:
    """A node with a TLS listener: `tls_url`, `ca_file`."""
    with PrivateBroker(name="tls", tls=True) as broker:
        yield broker
        _assert_no_connections(broker)


@pytest.fixture(scope="session")
def managed_broker() -> Iterator[PrivateBroker]:
    """A node with the management API: `management_url`. It takes longer to start, and memory.

    Its quorum queues tell their counts each second (`COUNTS_WITHIN`), not each fifth.
    """
    with PrivateBroker(
        name="managed",
        plugins=["rabbitmq_management", PLUGIN],
        advanced="[{rabbit, [{quorum_tick_interval, 1000}]}].",
    ) as broker:
        yield broker
        _assert_no_connections(broker)


@pytest.fixture(scope="session")
def cluster() -> Iterator[PrivateCluster]:
    """A cluster of three nodes. A test that breaks one must mend it."""
    with PrivateCluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def _second_broker() -> Iterator[PrivateBroker]:
    with PrivateBroker(name="breakable") as broker:
        yield broker


@pytest.fixture
def breakable_broker(_second_broker: PrivateBroker) -> Iterator[PrivateBroker]:
    """A node to kill, stop, pause or fill.

    It runs again for the next test, with whatever virtual hosts it has.
    """
    if not _second_broker.running:
        _second_broker.start()
    yield _second_broker
    if _second_broker.running:
        _second_broker.resume()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server that all tests share. A test that stops it must start it."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The URL of a schema for this test alone."""
    postgres.start()  # a test that stopped it may have failed
    return postgres.create_schema()


@pytest.fixture
def amqp_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a virtual host for this test alone."""
    name = f"test-{secrets.token_hex(6)}"
    given: str | None = request.config.getoption("--amqp-url")
    if given:
        yield _add_vhost_by_http(given, name)
        _call_management(given, "DELETE", f"vhosts/{name}")
        return
    broker: PrivateBroker = request.getfixturevalue("broker")
    yield broker.add_vhost(name)
    broker.delete_vhost(name)


def _assert_no_connections(broker: PrivateBroker, seconds: float = 5.0) -> None:
    """Wait until nobody is connected; a closed connection stays in the list for a moment."""
    deadline = time.monotonic() + seconds
    while (
        count := int(broker.eval("length(rabbit_networking:connections())"))
    ) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count == 0, (
        f"{count} connections were left open: {broker.ctl('list_connections', 'name', 'state')}"
    )


def _add_vhost_by_http(amqp_url: str, name: str) -> str:
    user = urllib.parse.urlsplit(amqp_url).username or "guest"
    _call_management(amqp_url, "PUT", f"vhosts/{name}")
    _call_management(
        amqp_url,
        "PUT",
        f"permissions/{name}/{user}",
        {"configure": ".*", "write": ".*", "read": ".*"},
    )
    return urllib.parse.urlsplit(amqp_url)._replace(path=f"/{name}").geturl()


def _call_management(
    amqp_url: str, method: str, path: str, body: dict[str, str] | None = None
) -> None:
    parts = urllib.parse.urlsplit(amqp_url)
    base = os.environ.get("DTBRIDGE_TEST_MANAGEMENT_URL", f"http://{parts.hostname}:15672")
    login = b64encode(f"{parts.username or 'guest'}:{parts.password or 'guest'}".encode()).decode()
    request = urllib.request.Request(
        f"{base.rstrip('/')}/api/{path}",
        data=json.dumps(body or {}).encode(),
        method=method,
        headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30):
        pass
