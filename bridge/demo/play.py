"""The demo from start to end: broker, worker, corpus, burst, summary, and everything put away again."""

import asyncio
import contextlib
import itertools
import logging
import secrets
import signal
import time
from collections.abc import Iterator, Sequence

import aio_pika
import aio_pika.exceptions

from bridge.broker.session import parse_urls
from bridge.contract import Names
from bridge.demo.corpus import CORPUS, Message, Row
from bridge.demo.gateway import Gateway
from bridge.demo.screen import Phase, Result, Screen
from bridge.demo.vendors import routers
from bridge.demo.verdict import Answer, judge
from bridge.demo.worker_process import WorkerFailed, WorkerProcess
from bridge.private_broker import BrokerUnavailable, GivenBroker, obtain_broker
from bridge.retry import DELAYS

ANSWER_TIMEOUT = 10.0
"""Seconds a station waits for an answer."""

START_TIMEOUT = 30.0
"""Seconds the worker may take until it consumes every queue."""

OUTSTANDING = 200
"""Requests of the burst that wait for their answers at a time."""

QUICK = frozenset({Row.ACCEPTED, Row.ACCEPTED_WITH_DATA})
"""What the burst is made of: messages as they come all day."""


def run(amqp_url: str | None, count: int, pace: float) -> int:
    """See `bridge.demo.run_demo`."""
    for library in ("aio_pika", "aiormq"):  # what they log they also raise
        logging.getLogger(library).addHandler(logging.NullHandler())
    with Screen() as screen, _ctrl_c_for_sigterm():
        try:
            with _broker_url(amqp_url, screen) as url:
                return asyncio.run(_play(url, count, pace, screen))
        except (BrokerUnavailable, WorkerFailed) as error:
            screen.say(str(error))
            return 1
        except (aio_pika.exceptions.AMQPError, OSError) as error:
            screen.say(f"The RabbitMQ cannot be used: {error}")
            return 1
        except KeyboardInterrupt:
            screen.say("Interrupted.")
            return 130


@contextlib.contextmanager
def _broker_url(given: str | None, screen: Screen) -> Iterator[str]:
    """The URL of a broker; of a cluster, which is given as several, that of the first host."""
    with contextlib.nullcontext(GivenBroker(given)) if given else obtain_broker(screen.say) as broker:
        try:
            first, *_ = parse_urls(broker.url.replace(",", " ").split())
        except ValueError as error:
            raise BrokerUnavailable(str(error)) from None
        yield str(first)


@contextlib.contextmanager
def _ctrl_c_for_sigterm() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, putting everything away; and let Ctrl-C do so where it is ignored."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT)),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _play(url: str, count: int, pace: float, screen: Screen) -> int:
    names = Names(prefix=f"datatransfer-demo-{secrets.token_hex(4)}")  # beside whatever else the broker is used for
    settings = {
        "DTBRIDGE_AMQP_URL": url,
        "DTBRIDGE_PREFIX": names.prefix,
        "DTBRIDGE_TOPOLOGY": "declare",
        "DTBRIDGE_LOG_FORMAT": "json",
    }
    try:
        async with WorkerProcess("bridge.demo.vendors:routers", settings) as worker:
            screen.say("Starting a bridge worker …")
            await _until_consumed(url, [*_vendor_queues(names), names.unknown_vendor], worker)
            async with Gateway(url, names.requests) as gateway:
                corpus = await _play_corpus(gateway, pace, screen)
                burst = await _play_burst(gateway, count, screen)
    finally:
        await _remove_topology(url, names)
    screen.summary(corpus, burst)
    return _closing_words([*corpus.results, *burst.results], screen)


async def _until_consumed(url: str, queues: Sequence[str], worker: WorkerProcess) -> None:
    """Wait until every queue has a consumer. Raises WorkerFailed if the worker ends first, or takes too long."""
    consumed = asyncio.create_task(_consumed(url, queues))
    ended = asyncio.create_task(worker.ended())
    try:
        await asyncio.wait({consumed, ended}, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise ended.result()
        if not consumed.done():
            raise worker.failure(f"The worker does not consume after {START_TIMEOUT:.0f} s")
        await consumed
    finally:
        for task in (consumed, ended):
            task.cancel()
        await asyncio.gather(consumed, ended, return_exceptions=True)


async def _consumed(url: str, queues: Sequence[str]) -> None:
    async with await aio_pika.connect(url) as connection:
        for queue in queues:
            while not await _has_consumer(connection, queue):  # noqa: ASYNC110 - AMQP has no event for it
                await asyncio.sleep(0.1)


async def _has_consumer(connection: aio_pika.abc.AbstractConnection, name: str) -> bool:
    try:
        async with connection.channel() as channel:
            queue = await channel.declare_queue(name, passive=True)
            return bool(queue.declaration_result.consumer_count)
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return False


async def _play_corpus(gateway: Gateway, pace: float, screen: Screen) -> Phase:
    screen.head()
    screen.begin("corpus", len(CORPUS))
    start = time.perf_counter()
    results = []
    for message in CORPUS:
        result = await _ask(gateway, message)
        results.append(result)
        screen.row(result)
        screen.advance()
        await asyncio.sleep(pace)
    return Phase("corpus, one at a time", results, time.perf_counter() - start)


async def _play_burst(gateway: Gateway, count: int, screen: Screen) -> Phase:
    """`count` everyday messages, OUTSTANDING of them at a time."""
    everyday = [message for message in CORPUS if message.row in QUICK]
    messages = itertools.islice(itertools.cycle(everyday), count)
    results: list[Result] = []

    async def station() -> None:
        for message in messages:
            results.append(await _ask(gateway, message))
            screen.advance()

    screen.begin("burst", count)
    start = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as stations:
            for _ in range(OUTSTANDING):
                stations.create_task(station())
    except ExceptionGroup as failures:  # the broker is gone, for all of them
        raise failures.exceptions[0] from None
    return Phase(f"burst, {OUTSTANDING} at a time", results, time.perf_counter() - start)


async def _ask(gateway: Gateway, message: Message) -> Result:
    start = time.perf_counter()
    answer: Answer | None = None
    with contextlib.suppress(TimeoutError):
        answer = await gateway.ask(message.station_id, message.ocpp_version, message.payload, ANSWER_TIMEOUT)
    return Result(message, judge(answer, message.answer), time.perf_counter() - start)


def _vendor_queues(names: Names) -> list[str]:
    return [names.vendor_queue(router.vendor_id) for router in routers]


async def _remove_topology(url: str, names: Names) -> None:
    """Delete what the worker has declared. What is not there is no error to the broker."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        retries = [names.retry(delay) for delay in DELAYS]
        for queue in (*_vendor_queues(names), names.unknown_vendor, names.dead, *retries):
            await channel.queue_delete(queue)
        for exchange in (names.requests, names.unrouted, names.dead, names.stations, *retries):
            await channel.exchange_delete(exchange)


def _closing_words(results: Sequence[Result], screen: Screen) -> int:
    wrong = [result for result in results if not result.outcome.fits]
    for result in wrong[:10]:
        outcome = result.outcome
        screen.say(f"{result.message.name}: expected {result.message.answer!r:.200}, got")
        screen.say(f"  {outcome.kind} {outcome.detail:.200}")
    screen.say(f"{len(wrong)} answers are wrong." if wrong else "Every request got exactly the answer it should.")
    return 1 if wrong else 0
