"""Opening a connection: whatever ends the attempt, no socket is left behind."""

import asyncio
from pathlib import Path
from typing import Any

import aiormq
import pamqp.frame
import pytest
from pamqp import commands
from yarl import URL

from bridge.rabbitmq.connection import open_connection
from bridge.rabbitmq.losses import explain
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


async def start_broker(properties: dict[str, Any]) -> tuple[URL, Silent]:
    """A server that logs everybody in and says this about itself."""
    methods = (
        commands.Connection.Start(server_properties=properties, mechanisms="PLAIN"),
        commands.Connection.Tune(channel_max=10, frame_max=4096, heartbeat=60),
        commands.Connection.OpenOk(),
    )
    server = Silent(b"".join(pamqp.frame.marshal(method, 0) for method in methods))
    return await server.start(), server


@pytest.mark.parametrize(
    "properties",
    [{}, {"capabilities": {}}, {"capabilities": None}, {"capabilities": {"basic.nack": True}}],
)
async def test_a_broker_that_does_not_say_that_it_confirms_is_refused_in_words(
    properties: dict[str, Any],
) -> None:
    url, server = await start_broker(properties)
    async with asyncio.timeout(10):
        with pytest.raises(aiormq.exceptions.IncompatibleProtocolError) as caught:
            await open_connection(url, "here", Listener(), 5.0)
        await server.closed.wait()
    assert "does not confirm publishings" in explain(caught.value)


async def test_a_broker_that_confirms_is_taken() -> None:
    url, server = await start_broker({"capabilities": {"publisher_confirms": True}})
    async with asyncio.timeout(10):
        connection = await open_connection(url, "here", Listener(), 5.0)
        connection.abort()
        await server.closed.wait()


async def test_a_tls_file_that_is_gone_is_a_lost_connection(tmp_path: Path) -> None:
    """It was there at the start; perhaps it is just being renewed."""
    url = URL(f"amqps://127.0.0.1/?cafile={tmp_path}/gone.pem")
    with pytest.raises(ConnectionError, match=r"gone\.pem cannot be read"):
        await open_connection(url, "here", Listener(), 5.0)
