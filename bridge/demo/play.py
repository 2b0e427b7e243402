"""The demo from start to end: a broker, a worker, a gateway, stations, then the other direction.

At the end everything is removed again.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import aio_pika
import aio_pika.exceptions
from websockets.exceptions import WebSocketException
from yarl import URL

from bridge.client.client import Client, NoAnswer, StationOffline
from bridge.demo.corpus import COMMANDS, CORPUS, STATIONS, V16, V21, V201, Command, Message, Row
from bridge.demo.processes import BridgeProcess, ProcessFailed
from bridge.demo.screen import Phase, Result, Screen
from bridge.demo.stations import Station, StationFailed
from bridge.demo.verdict import Answer, judge
from bridge.demo.workshop import routers
from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.topology import Topology, worker_topology
from bridge.ocpp import CallError, OcppVersion, encode_call_error, encode_request, encode_response
from bridge.rabbitmq.tls import tls_context
from bridge.rabbitmq.urls import parse_urls
from bridge.request.outcome import Kind
from bridge.testing.rabbitmq import BrokerUnavailable, GivenBroker, free_ports, obtain_broker
from bridge.transport import TransportError

ANSWER_TIMEOUT = 10.0
"""Seconds that a requester waits for an answer."""

START_TIMEOUT = 30.0
"""Seconds that a process may take until it is at work."""

BURST_STATIONS = 200
"""The most stations of the burst. Each has one request outstanding at a time, as OCPP-J asks."""

VERSIONS = (V16, V201, V21)
"""The versions that the burst's stations speak."""

QUICK = frozenset({Row.ACCEPTED, Row.ACCEPTED_WITH_DATA})
"""The rows whose messages make up the burst: they are answered at once, as most messages are."""


def run(amqp_url: str | None, count: int, pace: float) -> int:
    """See `bridge.demo.run_demo`."""
    for library in ("aio_pika", "aiormq"):  # they raise whatever they log
        logging.getLogger(library).addHandler(logging.NullHandler())
    with Screen() as screen, _ctrl_c_for_sigterm():
        try:
            with _broker_url(amqp_url, screen) as url:
                return asyncio.run(_play(url, count, pace, screen))
        except (BrokerUnavailable, ProcessFailed, StationFailed) as error:
            screen.say(str(error))
            return 1
        except (aio_pika.exceptions.AMQPError, TransportError, OSError) as error:
            screen.say(f"The RabbitMQ cannot be used: {error}")
            return 1
        except WebSocketException as error:
            screen.say(f"The gateway let a station down: {error}")
            return 1
        except KeyboardInterrupt:
            screen.say("Interrupted.")
            return 130


@contextlib.contextmanager
def _broker_url(given: str | None, screen: Screen) -> Iterator[str]:
    """The URL of a broker. Of a cluster, which has several URLs, it is the first."""
    with (
        contextlib.nullcontext(GivenBroker(given)) if given else obtain_broker(screen.say) as broker
    ):
        try:
            first, *_ = parse_urls([broker.url])
        except ValueError as error:
            raise BrokerUnavailable(str(error)) from None
        yield str(first)


@contextlib.contextmanager
def _ctrl_c_for_sigterm() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, so that it cleans up.

    Ctrl-C works even if the demo was started with SIGINT ignored.
    """
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(
            signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT)
        ),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _TaskGroup(asyncio.TaskGroup):
    """A TaskGroup that raises its first failure alone: a lost broker or gateway fails all tasks."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None


async def _play(url: str, count: int, pace: float, screen: Screen) -> int:
    # The broker may be in use: a prefix of its own keeps the demo apart.
    names = Names(prefix=f"datatransfer-demo-{secrets.token_hex(4)}")
    plan = worker_topology(Native(names), [router.vendor_id for router in routers])
    (port,) = free_ports(1)
    settings = {
        "DTBRIDGE_AMQP_URL": url,
        "DTBRIDGE_PREFIX": names.prefix,
        "DTBRIDGE_LISTEN": f"127.0.0.1:{port}",
        "DTBRIDGE_LOG_FORMAT": "json",
    }
    gateway_url = f"ws://127.0.0.1:{port}"
    try:
        async with (
            BridgeProcess("run", "bridge.demo.workshop:routers", settings=settings) as worker,
            BridgeProcess("gateway", settings=settings) as gateway,
        ):
            screen.say("Starting a worker and a gateway …")
            await _until(_consumed(url, [queue.name for queue in plan.request_queues]), worker)
            await _until(_listens(port), gateway)
            async with _stations(gateway_url, STATIONS) as stations:
                screen.say(_booted(stations))
                corpus = await _play_corpus(stations, pace, screen)
                burst = await _play_burst(gateway_url, count, screen)
                commands = await _play_commands(url, names, pace, screen)
    finally:
        await _remove(url, plan)
    phases = (corpus, burst, commands)
    screen.summary(phases)
    return _closing_words([result for phase in phases for result in phase.results], screen)


async def _until(ready: Coroutine[Any, Any, None], process: BridgeProcess) -> None:
    """Await `ready`, which shows that `process` is at work.

    Raises ProcessFailed if the process ends first, or takes longer than START_TIMEOUT.
    """
    waiting = asyncio.create_task(ready)
    ended = asyncio.create_task(process.ended())
    try:
        await asyncio.wait(
            {waiting, ended}, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
        )
        if ended.done():
            raise ended.result()
        if not waiting.done():
            raise process.failure(f"The {process.name} is not at work after {START_TIMEOUT:.0f} s")
        await waiting
    finally:
        for task in (waiting, ended):
            task.cancel()
        await asyncio.gather(waiting, ended, return_exceptions=True)


async def _connect(url: str) -> aio_pika.abc.AbstractConnection:
    return await aio_pika.connect(url, ssl_context=tls_context(URL(url)))


async def _consumed(url: str, queues: Sequence[str]) -> None:
    """Wait until every queue has a consumer."""
    async with await _connect(url) as connection:
        for queue in queues:
            while not await _has_consumer(connection, queue):  # noqa: ASYNC110 - no event in AMQP
                await asyncio.sleep(0.1)


async def _listens(port: int) -> None:
    """Wait until something listens on the port."""
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)


async def _has_consumer(connection: aio_pika.abc.AbstractConnection, name: str) -> bool:
    try:
        async with connection.channel() as channel:
            queue = await channel.declare_queue(name, passive=True)
            return bool(queue.declaration_result.consumer_count)
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return False


@contextlib.asynccontextmanager
async def _stations(
    gateway_url: str, versions: Mapping[str, str]
) -> AsyncIterator[dict[str, Station]]:
    """Charging stations that have booted, by their ids. On leaving, they disconnect."""
    stations = {
        name: Station(gateway_url, name, OcppVersion(version)) for name, version in versions.items()
    }
    async with contextlib.AsyncExitStack() as connected:
        async with _TaskGroup() as tasks:
            for station in stations.values():
                tasks.create_task(connected.enter_async_context(station))
        yield stations


def _booted(stations: Mapping[str, Station]) -> str:
    versions = Counter(station.version.removeprefix("ocpp") for station in stations.values())
    counted = ", ".join(f"{version}: {count}" for version, count in sorted(versions.items()))
    return f"{len(stations)} charging stations have booted (OCPP {counted})."


async def _play_corpus(stations: Mapping[str, Station], pace: float, screen: Screen) -> Phase:
    screen.heading("Charging stations ask: station → gateway → RabbitMQ → worker")
    screen.head()
    screen.begin("stations ask", len(CORPUS))
    start = time.perf_counter()
    results = []
    for message in CORPUS:
        result = await _ask(stations[message.station_id], message)
        results.append(result)
        screen.row(result)
        screen.advance()
        await asyncio.sleep(pace)
    return Phase("stations ask, one at a time", results, time.perf_counter() - start)


async def _play_burst(gateway_url: str, count: int, screen: Screen) -> Phase:
    """Play `count` everyday messages, from up to BURST_STATIONS more stations at a time."""
    if not count:
        return Phase("burst", [], 0.0)
    everyday = {
        version: [m for m in CORPUS if m.row in QUICK and m.ocpp_version == version]
        for version in VERSIONS
    }
    shares = _shared(count, min(count, BURST_STATIONS))
    versions = {
        f"BURST-{number:03}": version
        for number, version in zip(range(len(shares)), itertools.cycle(VERSIONS))
    }
    results: list[Result] = []

    async def ask(station: Station, share: int) -> None:
        for message in itertools.islice(itertools.cycle(everyday[station.version]), share):
            results.append(await _ask(station, message))
            screen.advance()

    screen.heading(f"{len(shares)} more stations at once")
    screen.begin("burst", count)
    async with _stations(gateway_url, versions) as stations:
        start = time.perf_counter()
        async with _TaskGroup() as tasks:
            for station, share in zip(stations.values(), shares, strict=True):
                tasks.create_task(ask(station, share))
        seconds = time.perf_counter() - start
    screen.say(f"{len(results):,} requests answered in {seconds:.1f} s")
    return Phase(f"burst, {len(shares)} stations at a time", results, seconds, is_burst=True)


def _shared(count: int, among: int) -> list[int]:
    """`count` divided into `among` parts that differ by at most one."""
    return [count // among + (number < count % among) for number in range(among)]


async def _ask(station: Station, message: Message) -> Result:
    start = time.perf_counter()
    answer: Answer | None = None
    with contextlib.suppress(TimeoutError):
        answer = await station.ask(message.action, message.payload, ANSWER_TIMEOUT)
    seconds = time.perf_counter() - start
    return Result(
        message, message.ocpp_version, message.payload, judge(answer, message.answer), seconds
    )


async def _play_commands(url: str, names: Names, pace: float, screen: Screen) -> Phase:
    screen.heading("The CSMS asks: CSMS → RabbitMQ → gateway → station")
    screen.head()
    screen.begin("the CSMS asks", len(COMMANDS))
    start = time.perf_counter()
    results = []
    async with Client(url, dialect=Native(names)) as client:
        await client.connect()
        for command in COMMANDS:
            result = await _command(client, command)
            results.append(result)
            screen.row(result)
            screen.advance()
            await asyncio.sleep(pace)
    return Phase("the CSMS asks, one at a time", results, time.perf_counter() - start)


async def _command(client: Client, command: Command) -> Result:
    version = OcppVersion(STATIONS.get(command.station_id, V21))
    start = time.perf_counter()
    answer: Answer | None = None
    try:
        response = await client.send_to_station(
            command.station_id, command.request, timeout=ANSWER_TIMEOUT
        )
        answer = Answer(Kind.RESPONSE.value, encode_response(response, version))
    except CallError as error:
        answer = Answer(Kind.CALL_ERROR.value, encode_call_error(error, version))
    except StationOffline:
        answer = Answer("StationOffline", b"")
    except NoAnswer:
        pass
    seconds = time.perf_counter() - start
    payload = encode_request(command.request, version)
    return Result(command, version.value, payload, judge(answer, command.answer), seconds)


async def _remove(url: str, plan: Topology) -> None:
    """Delete what the worker has declared. To the broker it is no error if it is not there."""
    async with await _connect(url) as connection, connection.channel() as channel:
        for queue in plan.queues:
            await channel.queue_delete(queue.name)
        for exchange in plan.exchanges:
            await channel.exchange_delete(exchange.name)


def _closing_words(results: Sequence[Result], screen: Screen) -> int:
    wrong = [result for result in results if not result.outcome.fits]
    for result in wrong[:10]:
        outcome = result.outcome
        screen.say(f"{result.asked.name}: expected {result.asked.answer!r:.200}, got")
        screen.say(f"  {outcome.kind} {outcome.detail:.200}")
    screen.say(
        f"{len(wrong)} answers are wrong."
        if wrong
        else "Every request got exactly the answer it should."
    )
    return 1 if wrong else 0
