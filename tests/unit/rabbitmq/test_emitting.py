"""What is sent and forgotten: when it is sent, when it is dropped, and what is told of that."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from yarl import URL

from bridge.dialects.topology import Exchange, Mode, Purpose, Topology
from bridge.rabbitmq import emitting
from bridge.rabbitmq.emitting import EPISODE, TOGETHER, WAITING, Emitter
from bridge.rabbitmq.frames.ids import ProtocolError
from bridge.rabbitmq.frames.writing import Encoder
from bridge.rabbitmq.outbox import Outbox
from bridge.transport import Properties, Publishing, TopologyError
from tests.unit.rabbitmq.lanes import Socket

EXCHANGE = Exchange("events", "topic", Purpose.EVENTS)
PROPERTIES = Properties(content_type="application/json")
PATIENCE = 10.0


def event(body: bytes = b"{}", **fields: Any) -> Publishing:
    return Publishing("v.failed", body, PROPERTIES, **{"exchange": "events"} | fields)


class Connection:
    """What `open_connection` gives, on a socket that writes nothing."""

    def __init__(self, listener: Any) -> None:
        self.listener = listener
        self.socket = Socket()
        self.outbox = Outbox(cast(asyncio.WriteTransport, self.socket), asyncio.get_running_loop())
        self.encoder = Encoder(4096)
        self.connection = "aio-pika's own"
        self.channels = 0
        self.aborted = self.closed = False
        self.limit = 0
        self.protocol = SimpleNamespace(
            limit_waiting=lambda size: setattr(self, "limit", size),
            register=lambda channel, sink: None,
            unregister=lambda channel: None,
        )

    async def channel(self, *, confirms: bool) -> Any:
        assert not confirms
        self.channels += 1
        return SimpleNamespace(number=self.channels)

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Broker:
    """What the emitter finds."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.asked: list[tuple[Topology, URL]] = []
        self.refusals: list[Exception] = []
        """Raised in turn, in place of having or declaring the exchange."""
        self._url = URL()

    async def open_connection(self, url: URL, name: str, listener: Any, _: float) -> Connection:
        assert name.startswith("w@")
        assert name.endswith(" events")
        self._url = url
        self.connections.append(Connection(listener))
        return self.connections[-1]

    async def ensure(self, _: Any, topology: Topology) -> None:
        self.asked.append((topology, self._url))
        if self.refusals:
            raise self.refusals.pop(0)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(emitting, "open_connection", broker.open_connection)
    monkeypatch.setattr(emitting, "ensure", broker.ensure)
    return broker


@pytest.fixture
async def emitter(broker: Broker) -> AsyncIterator[Emitter]:
    emitter = Emitter("w", EXCHANGE, Mode.DECLARE, lambda: URL("amqp://host/"))
    emitter.start()
    await emitter.ready(PATIENCE)
    yield emitter
    await emitter.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_is_emitted_one_after_the_other_is_written_together(
    emitter: Emitter, broker: Broker
) -> None:
    assert emitter.emit(event(b"one"))
    assert emitter.emit(event(b"two"))
    (connection,) = broker.connections
    assert connection.socket.writes == []
    await until(lambda: connection.socket.writes)
    (written,) = connection.socket.writes
    assert written.index(b"one") < written.index(b"two")
    assert connection.limit == WAITING


async def test_much_is_written_without_waiting_for_more(emitter: Emitter, broker: Broker) -> None:
    (connection,) = broker.connections
    for _ in range(8):
        assert emitter.emit(event(b"x" * (TOGETHER // 4)))
    assert len(connection.socket.writes) == 2
    assert emitter.emit(event(b"x" * TOGETHER))
    assert len(connection.socket.writes) == 3
    assert connection.outbox.parts == []


async def test_what_has_gathered_goes_down_with_its_connection(
    emitter: Emitter, broker: Broker
) -> None:
    assert emitter.emit(event(b"lost"))
    broker.connections[0].listener.on_ended("gone")
    await until(lambda: emitter.emit(event(b"next")))
    await until(lambda: broker.connections[1].socket.writes)
    assert b"lost" not in b"".join(broker.connections[1].socket.writes)
    assert broker.connections[0].socket.writes == []


@pytest.mark.parametrize("cause", ["blocked", "paused"])
async def test_a_broker_that_takes_nothing_is_sent_nothing(
    emitter: Emitter, broker: Broker, cause: str
) -> None:
    (connection,) = broker.connections

    def hold(*, on: bool) -> None:
        if cause == "blocked":
            connection.listener.on_blocked("low on memory" if on else None)
        else:
            connection.outbox.paused = on
            connection.listener.on_paused()

    hold(on=True)
    assert not emitter.emit(event())
    hold(on=False)
    assert emitter.emit(event())


async def test_one_drop_of_an_episode_is_told(
    emitter: Emitter,
    broker: Broker,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    broker.connections[0].listener.on_blocked("low on memory")
    for _ in range(100):
        now += EPISODE / 2
        emitter.emit(event())
    assert len(caplog.messages) == 1
    assert "the broker blocks publishing" in caplog.messages[0]
    now += EPISODE
    emitter.emit(event())
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    "wrong",
    [event(exchange="other"), event(exchange=""), event(correlation_id="c" * 256)],
    ids=["exchange", "default exchange", "correlation id"],
)
async def test_what_cannot_be_sent_is_dropped(
    emitter: Emitter, broker: Broker, wrong: Publishing
) -> None:
    assert not emitter.emit(wrong)
    assert broker.connections[0].outbox.parts == []


async def test_a_channel_that_is_closed_is_opened_again_on_its_connection(
    emitter: Emitter, broker: Broker
) -> None:
    assert emitter.emit(event(b"for the old channel"))
    emitter.on_channel_close(404, "NOT_FOUND - no exchange 'events'")
    assert not emitter.emit(event())
    await until(lambda: emitter.emit(event()))
    (connection,) = broker.connections
    await until(lambda: connection.socket.writes)
    assert b"for the old channel" not in b"".join(connection.socket.writes)
    assert connection.channels == 2
    assert len(broker.asked) == 2
    assert not connection.aborted


async def test_a_connection_that_is_lost_is_opened_again(emitter: Emitter, broker: Broker) -> None:
    broker.connections[0].listener.on_ended("w events: the connection was lost")
    assert not emitter.emit(event())
    await until(lambda: emitter.emit(event()))
    first, second = broker.connections
    assert first.closed
    first.listener.on_ended("told late")
    first.listener.on_blocked("told late")
    assert emitter.emit(event())
    assert len(second.outbox.parts) == 2


@pytest.mark.parametrize(
    ("mode", "asked"),
    [(Mode.DECLARE, Mode.DECLARE), (Mode.VERIFY, Mode.VERIFY), (Mode.NONE, Mode.VERIFY)],
)
async def test_the_exchange_is_declared_or_looked_for(
    broker: Broker, mode: Mode, asked: Mode
) -> None:
    emitter = Emitter("w", EXCHANGE, mode, lambda: URL("amqp://second/"))
    emitter.start()
    await emitter.ready(PATIENCE)
    assert broker.asked == [(Topology((EXCHANGE,), asked), URL("amqp://second/"))]
    await emitter.close()


async def test_that_the_exchange_is_missing_is_told_once_and_so_is_that_it_is_back(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    missing = "exchange 'events': NOT_FOUND - no exchange 'events' in vhost '/'"
    broker.refusals = [TopologyError(missing) for _ in range(3)]
    emitter = Emitter("w", EXCHANGE, Mode.VERIFY, lambda: URL("amqp://host/"))
    emitter.start()
    for _ in range(3):
        await emitter.ready(PATIENCE)
        assert not emitter.emit(event())
    await emitter.ready(PATIENCE)
    assert emitter.emit(event())
    off, on = caplog.messages
    assert "events are off" in off
    assert missing in off
    assert "events are on" in on
    assert len(broker.connections) == 1
    await emitter.close()


@pytest.mark.parametrize("error", [ConnectionError("gone"), ValueError("odd")])
async def test_any_other_failure_is_tried_again_on_a_connection_of_its_own(
    broker: Broker, error: Exception
) -> None:
    broker.refusals = [error]
    emitter = Emitter("w", EXCHANGE, Mode.DECLARE, lambda: URL("amqp://host/"))
    emitter.start()
    await emitter.ready(PATIENCE)
    assert not emitter.emit(event())
    await emitter.ready(PATIENCE)
    assert emitter.emit(event())
    assert [connection.aborted for connection in broker.connections] == [True, False]
    await emitter.close()


async def test_ready_does_not_wait_for_longer_than_it_may(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(emitting, "ensure", never)
    emitter = Emitter("w", EXCHANGE, Mode.DECLARE, lambda: URL("amqp://host/"))
    emitter.start()
    await emitter.ready(0.01)
    assert not emitter.emit(event())
    await emitter.close()
    assert broker.connections[0].aborted


async def test_the_end_lets_the_broker_read_what_was_sent_last(broker: Broker) -> None:
    emitter = Emitter("w", EXCHANGE, Mode.DECLARE, lambda: URL("amqp://host/"))
    emitter.start()
    await emitter.ready(PATIENCE)
    assert emitter.emit(event(b"the last"))
    await emitter.close()
    (connection,) = broker.connections
    assert b"the last" in connection.socket.taken()
    assert connection.closed
    assert not emitter.emit(event())


async def test_the_end_does_not_wait_for_a_broker_that_takes_nothing(broker: Broker) -> None:
    emitter = Emitter("w", EXCHANGE, Mode.DECLARE, lambda: URL("amqp://host/"))
    emitter.start()
    await emitter.ready(PATIENCE)
    broker.connections[0].listener.on_blocked("low on memory")
    await emitter.close()
    assert (broker.connections[0].closed, broker.connections[0].aborted) == (False, True)


async def test_nobody_delivers_or_confirms_on_this_channel(emitter: Emitter) -> None:
    with pytest.raises(ProtocolError):
        emitter.on_deliver()
    with pytest.raises(ProtocolError):
        emitter.on_confirm()
    with pytest.raises(ProtocolError):
        emitter.on_cancel(b"tag")
    emitter.on_return()
    assert not emitter.on_other(0, b"")
