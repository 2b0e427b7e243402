"""Where a fault is played: a virtual host of its own, proxies, worker processes, and a load."""

import asyncio
import contextlib
import itertools
import re
import signal
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import aiormq
import msgspec

from bridge.dialects.names import Names
from bridge.dialects.partitions import Partitions, label_of
from bridge.request.retry import DELAYS
from bridge.testing.rabbitmq import PrivateBroker
from tests.faults import effects
from tests.faults import spread as spread_routers
from tests.faults.handlers import OTHER_VENDOR, POISON_VENDOR, VENDOR, Vitals
from tests.faults.load import LOST_CONNECTION, WINDOW, Fate, Load, Maker, Sent, request
from tests.faults.order import out_of_order
from tests.faults.processes import BridgeProcess, StageError, tail
from tests.faults.proxy import Proxy
from tests.faults.witness import Witness
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer

NAMES: Final = Names()
REQUEST_QUEUES: Final = (
    *map(NAMES.vendor_queue, (VENDOR, POISON_VENDOR, OTHER_VENDOR)),
    NAMES.unknown_vendor,
)
WAITING_QUEUES: Final = tuple(NAMES.retry(delay) for delay in DELAYS)
READY_SECONDS: Final = 30.0
BACK_SECONDS: Final = 40.0
"""How long we wait for a recovery: far longer than is allowed, so that the table can say how long
it took."""
_CONTENTS: Final = """
Items = [messages_ready, messages_unacknowledged, messages_dlx],
[binary_to_list(iolist_to_binary(io_lib:format(
    "~ts: ~tp ready, ~tp unacknowledged, ~tp with the broker's dead-letter worker",
    [element(4, amqqueue:get_name(Q)) | Counts])))
 || Q <- rabbit_amqqueue:list(<<"%s">>),
    {type, Counts} <- [{type, [Count || {_, Count} <- catch rabbit_amqqueue:info(Q, Items)]}],
    lists:any(fun(Count) -> Count =/= 0 end, Counts)]
"""


class _VitalsAnswer(msgspec.Struct):
    data: Vitals


class Stage:
    """Everything for one fault: set up before it, taken down after it."""

    def __init__(
        self,
        nodes: Sequence[PrivateBroker],
        urls: Sequence[str],
        *,
        make: Maker,
        rate: float,
        seed: int,
        workers: int,
        options: Sequence[str] = (),
        heartbeat: int = 10,
        user: str | None = None,
        reply_arguments: dict[str, Any] | None = None,
        window: int = WINDOW,
        redis: RedisServer | None = None,
        spread: Partitions | None = None,
        postgres: PostgresServer | None = None,
    ) -> None:
        """Prepare it; `async with` starts it.

        Args:
            nodes: the broker's nodes that we may break.
            urls: the URLs of the virtual host, one for each node.
            make: makes the requests.
            rate: requests per second.
            seed: of everything that is random.
            workers: how many workers to start.
            options: options of `dtbridge run`.
            heartbeat: of the workers' connections, in seconds.
            user: the workers' own user, as NAME:PASSWORD.
            reply_arguments: further arguments of the reply queues.
            window: prefetch of each reply queue.
            redis: where the workers store replies, if not in memory.
            spread: the vendor's partitions; then its handlers are those of
                `tests/faults/spread.py`, and there is no other vendor.
            postgres: where requests have effects; then the handlers are those of
                `tests/faults/effects.py`.

        """
        self.nodes = list(nodes)
        self.urls = list(urls)
        self.witness = Witness()
        self.numbers = itertools.count(1)
        """Of connections through proxies."""
        self.proxies = [Proxy(_with_user(url, user), self.witness, self.numbers) for url in urls]
        self.load = Load(
            urls, make, rate=rate, seed=seed, reply_arguments=reply_arguments, window=window
        )
        self.load.late = self.witness.late
        self.random = self.load.random
        self.redis = redis
        self.postgres = postgres
        self.database = "" if postgres is None else postgres.create_schema()
        self.folder = Path(tempfile.mkdtemp(prefix="dtbridge-faults-"))
        self.spread = spread
        """As workers that are started next are told."""
        self.workers: list[BridgeProcess] = []
        self.commands: list[BridgeProcess] = []
        """What an operator has run."""
        self.expected_workers = workers
        """How many are to consume each queue."""
        self.notes: list[str] = []
        """Worth telling."""
        self.complaints: list[str] = []
        """What a fault itself found broken, or that it did not bite: then it proves nothing."""
        self.checks: list[Callable[[], list[str]]] = []
        """What a fault has to say of the books, when everything has come to rest."""
        self.sessions_end = False
        """Whether workers that live have lost their connections."""
        self.deaths = self.folder / "deaths"
        """The file that says at which points workers are to die."""
        self._journal = self.folder / "journal"
        self._recoveries: list[asyncio.Task[float]] = []
        self._count = workers
        self._options = list(options)
        self._heartbeat = heartbeat
        self._exits = contextlib.AsyncExitStack()
        self._control: aiormq.abc.AbstractConnection | None = None
        self._control_channel: aiormq.abc.AbstractChannel | None = None
        self._turn = asyncio.Lock()
        self._control_urls = itertools.cycle(urls)

    @property
    def node(self) -> PrivateBroker:
        return self.nodes[0]

    @property
    def vhost(self) -> str:
        return urllib.parse.urlsplit(self.urls[0]).path.lstrip("/")

    async def __aenter__(self) -> Self:
        for proxy in self.proxies:
            await self._exits.enter_async_context(proxy)
        if self.postgres is not None:
            await effects.make_tables(self.database)
        for _ in range(self._count):
            await self.start_worker()
        await self.consuming()
        await self._exits.enter_async_context(self.load)
        return self

    async def __aexit__(self, *_: object) -> None:
        for recovery in self._recoveries:
            recovery.cancel()
        await asyncio.gather(*self._recoveries, return_exceptions=True)
        for process in (*self.workers, *self.commands):
            await process.kill()
        await self._exits.aclose()
        await self._close_control()

    @property
    def request_queues(self) -> tuple[str, ...]:
        """Those that workers consume."""
        if self.spread is None:
            return REQUEST_QUEUES
        return (*self.spread.consumed(NAMES.vendor_queue(VENDOR)), NAMES.unknown_vendor)

    async def start_worker(self) -> BridgeProcess:
        options = list(self._options)
        for proxy in self.proxies:
            options += ["--amqp-url", proxy.url(heartbeat=str(self._heartbeat))]
        options += ["--log-format", "json", "--drain-timeout", "10", "--connect-timeout", "30"]
        options += ["--host-order", "given"]  # a fault knows whom it breaks
        routers = "tests.faults.handlers:routers"
        if self.spread is not None:
            routers = spread_routers.target(self.spread)
        if self.postgres is not None:
            routers = f"{effects.__name__}:routers"
        worker = BridgeProcess(
            ["run", routers, *options],
            self.folder / f"worker-{len(self.workers)}.log",
            {
                spread_routers.JOURNAL: str(self._journal),
                effects.DATABASE: self.database,
                effects.DEATHS: str(self.deaths),
            },
        )
        await worker.start()
        self.workers.append(worker)
        return worker

    def now(self) -> None:
        """Start the clock of a recovery here."""
        self._recoveries.append(asyncio.create_task(self._recover(time.monotonic())))

    async def recovered(self) -> float:
        """Seconds that the longest recovery took. Raises StageError if one does not come."""
        if not self._recoveries:
            self.now()
        return max(await asyncio.gather(*self._recoveries))

    async def _recover(self, started: float) -> float:
        """Seconds until every consumer is back and a request from after the fault is answered."""
        consuming_at = await self.consuming(BACK_SECONDS)
        try:
            async with asyncio.timeout(BACK_SECONDS):
                answered_at = await self.load.answer_after(started)
        except TimeoutError:
            raise StageError(
                f"no answer to a new request in {time.monotonic() - started:.0f} s"
            ) from None
        return max(consuming_at, answered_at) - started

    async def consuming(self, seconds: float = READY_SECONDS) -> float:
        """Wait until every worker consumes every queue of requests.

        Returns when they did (time.monotonic()). Raises StageError if they do not.
        """
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            asked_at = time.monotonic()
            counts = {queue: (await self.count(queue))[1] for queue in self.request_queues}
            if all(self._is_right(queue, consumers) for queue, consumers in counts.items()):
                return asked_at
            if not any(worker.running for worker in self.workers):
                raise StageError(f"no worker runs: {self.last_words()}")
            await asyncio.sleep(0.05)
        raise StageError(f"consumers are not back after {seconds:g} s: {counts}")

    def _is_right(self, queue: str, consumers: int) -> bool:
        """A cluster goes on counting the consumers of a node that is gone until it is back.

        Of a queue in order, the one that is given messages counts, or those that stand by as well.
        """
        if label_of(queue).endswith("-ordered"):
            return consumers > 0
        return consumers == self.expected_workers or (
            len(self.urls) > 1 and consumers > self.expected_workers
        )

    async def count(self, queue: str) -> tuple[int, int]:
        """Ready messages and consumers of a queue; (-1, -1) if it cannot be asked now."""
        try:
            async with asyncio.timeout(2.0), self._turn:
                channel = await self.control()
                declared = await channel.queue_declare(queue, passive=True)
        except LOST_CONNECTION:
            await self._close_control()
            return -1, -1
        return declared.message_count or 0, declared.consumer_count or 0

    async def control(self) -> aiormq.abc.AbstractChannel:
        """A channel of our own past the proxies, for what an operator does."""
        if self._control is None:
            self._control = aiormq.Connection(next(self._control_urls))
            await self._control.connect()
            self._control_channel = None
        if self._control_channel is None or self._control_channel.is_closed:
            self._control_channel = await self._control.channel()
        return self._control_channel

    async def _close_control(self) -> None:
        if self._control is not None:
            with contextlib.suppress(*LOST_CONNECTION):
                async with asyncio.timeout(1.0):
                    await self._control.close()
            self._control = None

    async def left(self) -> dict[str, int]:
        """Messages in queues that must be empty, by queue; asked a few times until it is empty."""
        left: dict[str, int] = {}
        for queue in (*self.request_queues, *WAITING_QUEUES, *self.load.reply_queues):
            for _ in range(5):
                left[queue], _ = await self.count(queue)
                if left[queue] == 0:
                    break
                await asyncio.sleep(0.1)
        return left

    async def at_rest(self, seconds: float = 5.0) -> int:
        """Wait until no delivery is unsettled, and return how many still are."""
        give_up_at = time.monotonic() + seconds
        while self.witness.unsettled and time.monotonic() < give_up_at:
            await asyncio.sleep(0.02)
        return self.witness.unsettled

    async def stop_workers(self) -> list[str]:
        """Stop all workers with SIGTERM, and return what was wrong with how they ended."""
        running = [worker for worker in self.workers if worker.running]
        for worker in running:
            worker.signal(signal.SIGTERM)
        wrong = []
        for worker in running:
            code = await worker.ended()
            if code != 0:
                wrong.append(f"a worker ended with {code}: {tail(worker.log)}")
        return wrong

    async def vitals(self, pid: int) -> Vitals:
        """A worker's tasks and memory; asked through the queue until the right one answers."""
        async with asyncio.timeout(30):
            while True:
                sent = self.load.publish_next(
                    lambda load, number, reply_to: request(
                        load, number, reply_to, VENDOR, "Vitals", 120.0
                    )
                )
                while not sent.answers and sent.fate in (Fate.PENDING, Fate.ACCEPTED):
                    await asyncio.sleep(0.01)
                if sent.answers:
                    found = msgspec.json.decode(sent.answers[0].body, type=_VitalsAnswer).data
                    if found.pid == pid:
                        return found

    def broken(self) -> list[str]:
        """What the fault's own checks have found, and what is out of order, at rest."""
        found = [line for check in self.checks for line in check()]
        if self.postgres is not None:
            found += effects.wrong_effects(self.database, self.load)
        if self.spread is not None and self.spread.ordered:
            found += out_of_order(
                self._journal.read_text().splitlines(),
                sure={sent.number for sent in self.load.accepted if sent.in_order},
                expired={
                    sent.number
                    for sent in self.load.accepted
                    if sent.dead or self.load.correlation_id(sent.number) in self.load.late
                },
                sessions_end=self.sessions_end,
            )
        return found

    def said(self, words: str) -> int:
        """How often these words stand in the workers' logs."""
        return sum(worker.said.count(words) for worker in self.workers)

    async def leader(self, queue: str) -> PrivateBroker:
        """The node that leads a quorum queue."""
        [asked] = [node for node in self.nodes if node.running][:1]
        name = f'rabbit_misc:r(<<"{self.vhost}">>, queue, <<"{queue}">>)'
        found = await self.ask_node(
            f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), element(2, amqqueue:get_pid(Q))", asked
        )
        return next(node for node in self.nodes if node.node == found.strip("'"))

    def trace(self, sent: Sent) -> str:
        """What the witness has seen of a request, for whoever looks for a missing one."""
        name = self.load.correlation_id(sent.number)
        return (
            f"{sent.number}: {self.witness.deliveries[name]} deliveries to workers, "
            f"{self.witness.redeliveries[name]} of them marked as redelivered; "
            f"{self.witness.confirmed[name]} publishings confirmed"
        )

    async def contents(self) -> list[str]:
        """What the queues hold that are not empty, in words; nothing if no node of ours runs.

        The broker itself is asked. AMQP tells a client neither what is unacknowledged nor what the
        broker's own dead-letter worker has in hand.
        """
        running = [node for node in self.nodes if node.running]
        if not running:
            return []
        found = await self.ask_node(_CONTENTS % self.vhost, running[0])
        return re.findall(r'"([^"]+)"', found)

    def last_words(self) -> str:
        return " | ".join(tail(worker.log) for worker in self.workers)

    async def ask_node(self, expression: str, node: PrivateBroker | None = None) -> str:
        """The value of an Erlang expression on a node, the first one by default."""
        return await asyncio.to_thread((node or self.node).eval, expression)

    async def control_node(self, *arguments: str) -> str:
        """What `rabbitmqctl ARGUMENTS` prints."""
        return await asyncio.to_thread(self.node.ctl, *arguments)


def _with_user(url: str, user: str | None) -> str:
    parts = urllib.parse.urlsplit(url)
    if user is None:
        return url
    return parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port}").geturl()
