"""From options to the parts of a program."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridge.cli
from bridge import Router
from bridge.cli.assembly import (
    DialectName,
    check_store,
    make_client,
    make_dialect,
    make_gateway_link,
    make_listener,
    open_store,
    open_worker,
)
from bridge.cli.dead import list_letters, purge_letters, replay_letters, show
from bridge.cli.gateway import gateway
from bridge.cli.run import run
from bridge.cli.send import send, send_to_station
from bridge.cli.tap import tap
from bridge.client.client import Client
from bridge.dialects import CitrineOs, Native, WebOcpp
from bridge.dialects.names import Names
from bridge.dialects.topology import Mode, QueueType, gateway_topology, worker_topology
from bridge.gateway.link import GatewayLink
from bridge.idempotency.memory import MemoryStore
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import HostOrder, parse_urls
from bridge.request.retry import RetryPolicy
from bridge.telemetry.events import EventMode
from bridge.worker.worker import Settings, Worker

URLS = parse_urls(["amqp://localhost/"])


# ---- the store of replies ----


@pytest.mark.parametrize(
    "location", ["memory", "none", "redis://localhost", "rediss://u:p@h:1/0", "unix:///tmp/r"]
)
def test_a_location_that_names_a_store_is_taken(location: str) -> None:
    check_store(location)


@pytest.mark.parametrize("location", ["postgresql://u:secret@h/d", "postgres:///acme"])
def test_whoever_asks_for_replies_in_postgresql_is_told_where_they_are(location: str) -> None:
    with pytest.raises(ValueError, match="the middleware exactly_once keeps them") as raised:
        check_store(location)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("location", ["", "Memory", "redis", "http://localhost", "localhost:6379"])
def test_a_location_that_names_none_is_refused_with_a_sentence(location: str) -> None:
    with pytest.raises(
        ValueError, match="--idempotency is memory, none or redis://HOST:PORT/DB, not"
    ):
        check_store(location)


@pytest.mark.parametrize(
    "location",
    [
        "redis://:12#Qx7@h/0",
        "redis://:Qx7#Zk9@h/0",
        "redis://:12/Qx7@h/0",
        "redis://:Qx7?x@h",
        "redis://u:[Qx7@h/0",
        "redis://u:Qx7@h:x/0",
        "redis://u:Qx7",
        "http://u:Qx7@h/0",
        "redis:/u:Qx7@h/0",
    ],
)
def test_no_part_of_the_password_of_a_store_is_told(location: str) -> None:
    with pytest.raises(ValueError, match="--idempotency") as caught:
        check_store(location)
    assert not [part for part in ("Qx7", "Zk9") if part in str(caught.value)]


def test_redis_without_its_library_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'datatransfer-bridge\[redis\]'"):
        check_store("redis://localhost")
    check_store("memory")


async def test_a_store_is_opened_by_its_location() -> None:
    async with open_store("none") as store:
        assert store is None
    async with open_store("memory") as store:
        assert isinstance(store, MemoryStore)


# ---- the dialect ----


@pytest.mark.parametrize(
    ("name", "kind"), [("native", Native), ("web-ocpp", WebOcpp), ("citrineos", CitrineOs)]
)
def test_a_dialect_is_made_by_its_name(name: str, kind: type) -> None:
    made = make_dialect(DialectName(name), "north")
    assert type(made) is kind
    assert made.names.prefix.startswith("north")


def test_a_gateway_that_is_not_as_usual_can_be_described() -> None:
    made = make_dialect(DialectName.CITRINEOS, "north", exchange="other", patience=7.0)
    usual = CitrineOs("north", "other", 7.0)
    assert (made.exchange, made.queues) == (usual.exchange, usual.queues)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("native", {"exchange": "x"}, "--gateway-exchange and --answer-within are for"),
        ("native", {"patience": 5.0}, "--gateway-exchange and --answer-within are for"),
        ("citrineos", {"reply_prefixes": ("mine.",)}, "--reply-prefix is for the native dialect"),
    ],
)
def test_an_option_of_another_dialect_is_refused(
    name: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        make_dialect(DialectName(name), "north", **options)


# ---- the parts together ----


@pytest.mark.parametrize(("store", "keeps"), [("memory", True), ("none", False)])
async def test_a_worker_is_put_together(store: str, keeps: bool) -> None:
    settings = Settings(prefetch=7)
    async with open_worker(
        [Router("v"), Router("w")],
        URLS,
        dialect=Native(Names("north")),
        settings=settings,
        store=store,
        mode=Mode.VERIFY,
        queue_type=QueueType.CLASSIC,
        start_timeout=3.0,
        name="mine",
    ) as worker:
        transport = worker._transport
        assert isinstance(transport, RabbitTransport)
        plan = worker_topology(Native(Names("north")), ["v", "w"], Mode.VERIFY, QueueType.CLASSIC)
        assert transport._topology == plan.needed
        assert transport._pauses is not None
        assert transport._pauses.topology.parts == plan.control
        assert transport._pauses.keys == {"v", "w"}
        assert (transport._name, transport._start_timeout) == ("mine", 3.0)
        assert worker.settings is settings
        assert worker.dialect.names == Names("north")
        assert (worker._once is not None) is keeps


@pytest.mark.parametrize("mode", [EventMode.NONE, EventMode.FAILURES, EventMode.ALL])
async def test_a_worker_that_tells_has_an_exchange_for_it(mode: EventMode) -> None:
    async with open_worker(
        [Router("v")],
        URLS,
        dialect=Native(Names("north")),
        settings=Settings(events=mode, event_bodies=True),
        store="none",
        mode=Mode.VERIFY,
        queue_type=QueueType.CLASSIC,
        start_timeout=3.0,
        name="mine",
    ) as worker:
        assert isinstance(worker._transport, RabbitTransport)
        assert (worker._transport._emitter is not None) is (mode is not EventMode.NONE)
        assert (worker.intakes[0]._told is not None) is (mode is not EventMode.NONE)


def test_a_listener_is_put_together() -> None:
    transport = make_listener(URLS, start_timeout=3.0, host_order=HostOrder.GIVEN, name="mine")
    assert (transport._topology, transport._name, transport._start_timeout) == (None, "mine", 3.0)


def test_a_gateways_link_is_put_together() -> None:
    link = make_gateway_link(URLS, prefix="north", mode=Mode.NONE, start_timeout=3.0, name="mine")
    transport = link._transport
    assert isinstance(transport, RabbitTransport)
    assert transport._topology == gateway_topology(Names("north"), Mode.NONE)
    assert (transport._name, transport._start_timeout) == ("mine", 3.0)
    assert link._dialect.names == Names("north")


def test_a_client_is_put_together() -> None:
    transport = make_client(URLS, prefix="north", start_timeout=3.0, name="mine")._transport
    assert isinstance(transport, RabbitTransport)
    assert transport._topology is None
    assert (transport._name, transport._start_timeout) == ("mine", 3.0)


PARTS = {
    "CitrineOs",
    "GatewayLink",
    "gateway_topology",
    "MemoryStore",
    "Native",
    "RabbitTransport",
    "RedisStore",
    "worker_topology",
    "WebOcpp",
    "Worker",
    "open_dead_queue",
}


def test_no_other_module_of_the_commands_puts_parts_together() -> None:
    for path in Path(next(iter(bridge.cli.__path__))).glob("*.py"):
        found = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert path.name == "assembly.py" or not found & PARTS, path.name


# ---- defaults ----


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def test_what_a_worker_does_by_default_is_what_the_command_says() -> None:
    options = defaults(run)
    settings = Settings()
    named = set(settings.__struct_fields__) - {"retry"}
    assert {name: options[name] for name in named} == {
        name: getattr(settings, name) for name in named
    }
    assert options["attempts"] == settings.retry.attempts == RetryPolicy().attempts
    assert options["name"] == defaults(Worker.__init__)["name"]
    plan = defaults(worker_topology)
    assert (options["topology"], options["queue_type"]) == (plan["mode"], plan["queue_type"])


def test_what_a_gateway_does_by_default_is_what_the_command_says() -> None:
    """Its settings are compared in test_gateway."""
    options = defaults(gateway)
    assert options["name"] == defaults(GatewayLink.__init__)["name"]
    assert options["topology"] == defaults(gateway_topology)["mode"]


@pytest.mark.parametrize("command", [send, send_to_station])
def test_what_a_client_does_by_default_is_what_the_command_says(
    command: Callable[..., Any],
) -> None:
    assert defaults(command)["timeout"] == defaults(Client.__init__)["timeout"]


def test_a_request_is_of_the_version_that_a_client_sends() -> None:
    assert defaults(send)["ocpp_version"] == defaults(Client.data_transfer)["ocpp_version"]


@pytest.mark.parametrize("command", [run, gateway])
def test_a_broker_is_looked_for_as_long_as_a_transport_does(command: Callable[..., Any]) -> None:
    expected = defaults(RabbitTransport.__init__)["start_timeout"]
    assert defaults(command)["connect_timeout"] == expected


@pytest.mark.parametrize(
    "command",
    [
        run,
        gateway,
        send,
        send_to_station,
        list_letters,
        show,
        replay_letters,
        purge_letters,
        tap,
        WebOcpp.__init__,
        CitrineOs.__init__,
    ],
)
def test_all_names_begin_alike(command: Callable[..., Any]) -> None:
    assert defaults(command)["prefix"] == Names().prefix
