"""What the tests on a real RabbitMQ share.

Workers in this process, workers and gateways in processes of their own, and the broker's view of
its queues.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aio_pika
import aio_pika.abc

from bridge import DataTransferRequest, Router
from bridge.dialects.dialect import Dialect
from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.partitions import partitions_of
from bridge.dialects.topology import Mode, QueueType, worker_topology
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import HostOrder, parse_urls
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import State, StateListener, Subscription
from bridge.worker.worker import Settings, Worker

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds until a test gives up on what should happen at once; the machine may be busy."""
NAMES = Names()


# ---- a worker in this process ----


class WatchedTransport(RabbitTransport):
    """A transport whose states can be awaited."""

    def __init__(self, url: str | Sequence[str], **settings: Any) -> None:
        settings.setdefault("host_order", HostOrder.GIVEN)  # tests know whom they break
        super().__init__(parse_urls([url] if isinstance(url, str) else url), **settings)
        self.history: list[State] = []
        self._changed = asyncio.Event()

    async def start(self, subscriptions: Sequence[Subscription], on_state: StateListener) -> None:
        def watch(state: State, reason: str) -> None:
            self.history.append(state)
            self._changed.set()
            on_state(state, reason)

        await super().start(subscriptions, watch)

    async def until(self, *states: State, since: int = 0) -> None:
        """Wait until these states were entered in this order, with any others in between.

        `since`: the index in `history` from which they count.
        """
        async with asyncio.timeout(PATIENCE):
            while not _in_order(states, self.history[since:]):
                self._changed.clear()
                await self._changed.wait()


def _in_order(wanted: Sequence[State], history: Iterable[State]) -> bool:
    left = iter(history)
    return all(state in left for state in wanted)


class Working:
    """A worker that consumes, and its transport."""

    def __init__(self, worker: Worker, transport: WatchedTransport) -> None:
        self.worker = worker
        self.transport = transport


@contextlib.asynccontextmanager
async def working(
    url: str | Sequence[str],
    *routers: Router,
    mode: Mode = Mode.DECLARE,
    queue_type: QueueType = QueueType.QUORUM,
    dialect: Dialect | None = None,
    **settings: Any,
) -> AsyncIterator[Working]:
    """Run a worker that consumes until the end of the block, then drain it."""
    spoken = dialect or Native(NAMES)
    vendor_ids = [router.vendor_id for router in routers]
    partitions = partitions_of(routers)
    topology = worker_topology(spoken, vendor_ids, mode, queue_type, partitions=partitions)
    transport = WatchedTransport(url, topology=topology)
    worker = Worker(
        routers,
        transport,
        dialect=spoken,
        settings=Settings(**({"drain_timeout": 5.0} | settings)),
    )
    task = asyncio.create_task(worker.run())
    consuming = asyncio.create_task(transport.until(State.CONSUMING))
    await asyncio.wait((task, consuming), return_when=asyncio.FIRST_COMPLETED)
    consuming.cancel()
    try:
        if not task.done():
            yield Working(worker, transport)
    finally:
        worker.stop()
        await task


# ---- workers and gateways in their own processes ----


class BridgeProcess:
    """`dtbridge …` as a process of its own.

    At the end of the block it is asked to stop, and must end with `exit_code`.
    """

    ready = ""
    """The event in its log that shows that it is at work."""
    within: tuple[str, ...] = ()
    """A command that runs it."""

    def __init__(
        self, *arguments: str, url: str | None, settings: Mapping[str, object], folder: Path = ROOT
    ) -> None:
        """`url`: the broker's, unless `settings` name it."""
        self._environment = clean_environment() | {
            **({} if url is None else {"DTBRIDGE_AMQP_URL": url}),
            "DTBRIDGE_LOG_FORMAT": "json",
            **{f"DTBRIDGE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._processes = int(str(settings.get("processes", 1)))
        self._command = [*self.within, sys.executable, "-m", "bridge", *arguments]
        self._folder = folder
        self._news = threading.Condition()
        self._ended = False
        self.exit_code = 0
        """The exit code it must end with."""
        self.log: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            env=self._environment,
            cwd=self._folder,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.until(self.ready, self._processes)
        except BaseException:
            self.__exit__(RuntimeError)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            assert self.stop() == self.exit_code, self.log
        self.process.kill()
        self.process.wait()
        self._reader.join()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await asyncio.to_thread(self.__exit__, kind)

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self._news:
                    self.log.append(_parsed(line))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def until(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`-th log line with that event, and return it."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.log if line.get("event") == event]

        with self._news:
            self._news.wait_for(lambda: self._ended or len(found()) >= count, PATIENCE)
            assert len(found()) >= count, f"no {event!r} in the log: {self.log}"
            return found()[count - 1]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until it ends, and return its exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def stop(self) -> int:
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    @property
    def counts(self) -> dict[str, Any]:
        """The counts in its last log line, `drained`."""
        return self.until("drained")

    @property
    def resident(self) -> int:
        """Bytes of memory it uses now."""
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(shown.stdout) * 1024


class WorkerProcess(BridgeProcess):
    """`dtbridge run`."""

    ready = "consuming"

    def __init__(self, target: str, url: str, *, folder: Path = ROOT, **settings: object) -> None:
        super().__init__("run", target, url=url, settings=settings, folder=folder)


class GatewayProcess(BridgeProcess):
    """`dtbridge gateway` on a free port."""

    ready = "listening"

    def __init__(self, url: str, **settings: object) -> None:
        super().__init__(
            "gateway", url=url, settings={"listen": "127.0.0.1:0", "log_level": "debug"} | settings
        )

    @property
    def url(self) -> str:
        """The beginning of every station's URL."""
        (address,) = self.until("listening")["addresses"]
        return f"ws://{address}"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def _parsed(line: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"text": line.rstrip()}
    return parsed


def clean_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with no settings of the bridge but these."""
    kept = {name: value for name, value in os.environ.items() if _is_ours(name)}
    return kept | dict(settings or {})


def _is_ours(name: str) -> bool:
    return not name.startswith("DTBRIDGE_") or name == "DTBRIDGE_TEST_SESSION"


# ---- the broker's view ----


async def ready(url: str, *queues: str) -> dict[str, int]:
    """How many messages of each queue are not delivered: all of them, if nobody consumes."""
    counts: dict[str, int] = {}
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        for name in queues:
            before = -1
            while True:
                queue = await channel.declare_queue(name, passive=True)
                counts[name] = queue.declaration_result.message_count or 0
                if counts[name] in {0, before}:
                    break
                # A quorum queue counts an acknowledgement once its log has it, so ask twice.
                before = counts[name]
                await asyncio.sleep(0.3)
    return counts


async def dead_letters(url: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
    """Take everything out of the dead-letter queue.

    What the broker dead-letters at least once comes soon, not at once.
    """
    messages = []
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue = await channel.get_queue(NAMES.dead)
        while (message := await queue.get(fail=False, no_ack=True)) is not None:
            messages.append(message)
    return messages


def import_definitions(broker: PrivateBroker, definitions: Mapping[str, Any]) -> None:
    """What `rabbitmqctl import_definitions` has a node do, without an Erlang machine of its own.

    Only a node's own folder is sure to be one that it can read.
    """
    file = broker.folder / "definitions.json"
    file.write_text(json.dumps(definitions))
    broker.eval(
        f'{{ok, Text}} = file:read_file("{file}"), ok = rabbit_definitions:import_raw(Text)'
    )
    file.unlink()


def add_user(
    broker: PrivateBroker, name: str, password: str, vhost: str, rights: Sequence[str]
) -> None:
    """Add a user with rights in one virtual host: to configure, to write and to read."""
    patterns = ", ".join(f"<<{json.dumps(right)}>>" for right in rights)
    broker.eval(
        "U = rabbit_auth_backend_internal, "
        f'ok = U:add_user(<<"{name}">>, <<"{password}">>, <<"guest">>), '
        f'ok = U:set_permissions(<<"{name}">>, <<"{vhost}">>, {patterns}, <<"guest">>)'
    )


def delete_users(broker: PrivateBroker, *names: str) -> None:
    for name in names:
        broker.eval(f'ok = rabbit_auth_backend_internal:delete_user(<<"{name}">>, <<"guest">>)')


def close_connections(broker: PrivateBroker, url: str) -> None:
    """Have the broker close every AMQP connection to the virtual host of `url`.

    One that ends by itself meanwhile, because its twin was closed, is no fault.
    """
    vhost = url.rpartition("/")[2]
    broker.eval(
        '[(catch rabbit_networking:close_connection(Pid, "closed by the test"))'
        " || Pid <- rabbit_networking:connections(),"
        " [{vhost, V}] <- [(catch rabbit_networking:connection_info(Pid, [vhost]))],"
        f' V =:= <<"{vhost}">>]'
    )


def request(
    vendor_id: str = "v", message_id: str | None = "m", data: Any = None
) -> DataTransferRequest:
    asked = DataTransferRequest(vendor_id, message_id)
    if data is not None:
        asked.data = data
    return asked
