"""Connections that fall silent at an awkward moment: while a session opens, or ends."""

import asyncio
import contextlib
from typing import Self

from yarl import URL

from bridge import Call, Router
from bridge.client.client import Client
from bridge.transport import State
from tests.integration.support import PATIENCE, request, working

HEARTBEAT = 1
LOGGED_IN = 1_100
"""About so many bytes come from the broker until both connections of a session are logged in."""
CONSUMES = 2_100
"""At least so many come until it consumes."""


class Line:
    """A line to the broker. Once it goes dead, nothing comes through and nobody is told."""

    def __init__(self, url: str) -> None:
        self._url = URL(url)
        self._pairs: set[asyncio.Task[None]] = set()
        self._mortal: set[asyncio.Task[None]] = set()
        self._left: int | None = None
        self.dead = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.reset()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return str(self._url.with_port(port).update_query(heartbeat=HEARTBEAT))

    def reset(self) -> None:
        """End every connection."""
        for pair in self._pairs:
            pair.cancel()

    def die_after(self, count: int) -> None:
        """Go dead after so many more bytes from the broker, for the connections opened until then.

        Later ones are fine.
        """
        self._left = count
        self.dead.clear()

    def die(self) -> None:
        """Go dead for every connection that is open."""
        self._mortal.update(self._pairs)
        self.dead.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        broker_reader, broker_writer = await asyncio.open_connection(self._url.host, self._url.port)
        if self._left is not None:
            self._mortal.add(task)

        async def relay(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_broker: bool
        ) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65_536):
                    if task in self._mortal:
                        if self.dead.is_set():
                            continue
                        if from_broker and self._left is not None:
                            data, self._left = data[: self._left], self._left - len(data)
                            if self._left <= 0:
                                self._left = None
                                self.dead.set()
                    sink.write(data)
            if task in self._mortal and self.dead.is_set():
                await asyncio.Event().wait()  # nobody is told of the end either
            sink.close()

        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(
                relay(reader, broker_writer, from_broker=False),
                relay(broker_reader, writer, from_broker=True),
            )
        for each in (writer, broker_writer):
            each.transport.abort()
        self._pairs.discard(task)


def answering() -> Router:
    router = Router("v")

    @router.default
    async def answer(call: Call) -> str:
        return "answered"

    return router


async def test_a_first_connection_that_falls_silent_is_left_for_the_next(amqp_url: str) -> None:
    async def start(bytes_until_dead: int) -> None:
        async with Line(amqp_url) as line:
            line.die_after(bytes_until_dead)
            async with working(line.url, answering()) as it:
                assert line.dead.is_set()
                assert it.worker.state is State.CONSUMING

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*map(start, range(LOGGED_IN, CONSUMES, 200)))


async def test_a_reconnection_that_falls_silent_is_left_for_the_next(amqp_url: str) -> None:
    """Once, it left the worker in `connecting` for good: the library "cancelled" what waited."""

    async def reconnect(bytes_until_dead: int) -> None:
        async with Line(amqp_url) as line, working(line.url, answering()) as it:
            line.die_after(bytes_until_dead)
            line.reset()
            await asyncio.wait_for(line.dead.wait(), PATIENCE)
            await it.transport.until(State.CONSUMING, since=len(it.transport.history))

    async with asyncio.timeout(2 * PATIENCE):
        await asyncio.gather(*map(reconnect, range(LOGGED_IN, CONSUMES, 200)))
    async with Client(amqp_url, timeout=PATIENCE) as client, working(amqp_url, answering()):
        assert (await client.data_transfer("CP001", request())).data == "answered"


async def test_a_drain_whose_connection_falls_silent_ends_in_order(amqp_url: str) -> None:
    async with Line(amqp_url) as line:
        # Time enough for the library to notice first: it then "cancels" whoever waits for the
        # broker to stop its deliveries.
        async with working(line.url, answering(), drain_timeout=PATIENCE) as it:
            line.die()
        # `working` has awaited the worker's end, which would have raised.
        assert it.worker.state is State.STOPPED
