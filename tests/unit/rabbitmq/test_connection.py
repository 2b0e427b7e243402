"""Opening a connection: whatever ends the attempt, no socket is left behind."""

import asyncio

import aiormq
import pytest
from yarl import URL

from bridge.rabbitmq.connection import open_connection
from tests.unit.rabbitmq.test_socket import Listener


class Silent:
    """A server that accepts one connection, reads what comes and answers what it is told to."""

    def __init__(self, answer: bytes = b"") -> None:
        self._answer = answer
        self.greeted = asyncio.Event()
        self.closed = asyncio.Event()

    async def start(self) -> URL:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return URL(f"amqp://guest:guest@127.0.0.1:{self._server.sockets[0].getsockname()[1]}/")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        self.greeted.set()
        writer.write(self._answer)
        try:
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        self.closed.set()
        writer.close()
        self._server.close()


async def test_an_attempt_that_is_cancelled_closes_its_socket() -> None:
    server = Silent()
    url = await server.start()
    listener = Listener()
    opening = asyncio.create_task(open_connection(url, "here", listener, 30.0))
    async with asyncio.timeout(10):
        await server.greeted.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await server.closed.wait()
        assert (await listener.ended).startswith("here: ")


async def test_an_attempt_that_nobody_answers_ends_in_time_and_closes_its_socket() -> None:
    server = Silent()
    url = await server.start()
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await open_connection(url, "here", Listener(), 0.1)
        await server.closed.wait()


async def test_a_broker_of_another_version_is_named_and_its_socket_closed() -> None:
    server = Silent(b"AMQP\x00\x00\x09\x01")
    url = await server.start()
    async with asyncio.timeout(10):
        with pytest.raises(aiormq.exceptions.AMQPError):
            await open_connection(url, "here", Listener(), 5.0)
        await server.closed.wait()
