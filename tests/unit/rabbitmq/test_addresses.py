"""A host with several addresses: one that does not answer keeps nobody from the next."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from bridge.rabbitmq import addresses
from bridge.rabbitmq.addresses import connect_to

Found = list[tuple[int, int, int, str, Any]]


class Loopback:
    """Names and answers of a network: which addresses answer, refuse or swallow everything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *found: tuple[str, str]) -> None:
        """`found`: address and ``answers``, ``refuses`` or ``silent``, in the resolver's order."""
        self.tried: list[str] = []
        self.made: list[socket.socket] = []
        self._behaviour = dict(found)
        self._addresses = [address for address, _ in found]
        self.silent = asyncio.Event()
        """A silent address has been tried."""
        real = socket.socket

        def make(*arguments: Any) -> socket.socket:
            self.made.append(made := real(*arguments))
            return made

        monkeypatch.setattr(socket, "socket", make)
        monkeypatch.setattr(addresses, "resolve", self.resolve)
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", self.sock_connect)

    async def resolve(self, *_: object) -> Found:
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 0, "", (each,))
            for each in self._addresses
        ]

    async def sock_connect(self, _: socket.socket, where: tuple[str]) -> None:
        self.tried.append(where[0])
        match self._behaviour[where[0]]:
            case "refuses":
                raise ConnectionRefusedError(errno.ECONNREFUSED, "words of the event loop")
            case "silent":
                self.silent.set()
                await asyncio.Event().wait()

    def open(self) -> int:
        """Sockets that are not closed."""
        return sum(made.fileno() != -1 for made in self.made)


@pytest.mark.parametrize(
    ("found", "tried"),
    [
        ([("1.1.1.1", "answers"), ("1.1.1.2", "answers")], ["1.1.1.1"]),
        ([("1.1.1.1", "silent"), ("1.1.1.2", "answers")], ["1.1.1.1", "1.1.1.2"]),
        ([("1.1.1.1", "refuses"), ("1.1.1.2", "answers")], ["1.1.1.1", "1.1.1.2"]),
        (
            [("1.1.1.1", "silent"), ("1.1.1.2", "silent"), ("::1", "refuses"), ("::2", "answers")],
            ["1.1.1.1", "::1", "1.1.1.2", "::2"],
        ),
    ],
)
async def test_the_first_address_that_answers_is_taken_and_families_take_turns(
    monkeypatch: pytest.MonkeyPatch, found: list[tuple[str, str]], tried: list[str]
) -> None:
    monkeypatch.setattr(addresses, "NEXT_ADDRESS", 0.01)
    network = Loopback(monkeypatch, *found)
    async with asyncio.timeout(10):
        taken = await connect_to("broker", 5672)
        assert network.tried == tried
        assert taken is network.made[-1]
        while network.open() > 1:  # the others close as they are cancelled
            await asyncio.sleep(0)
    taken.close()


async def test_if_none_answers_each_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Loopback(monkeypatch, ("1.1.1.1", "refuses"), ("::1", "refuses"))
    with pytest.raises(OSError, match=r"^Connection refused \(1\.1\.1\.1\); .* \(::1\)$"):
        await connect_to("broker", 5672)
    assert network.open() == 0


async def test_a_name_without_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Loopback(monkeypatch)
    with pytest.raises(OSError, match="the name has no address"):
        await connect_to("broker", 5672)


async def test_an_attempt_that_is_cancelled_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Loopback(monkeypatch, ("1.1.1.1", "silent"), ("1.1.1.2", "silent"))
    connecting = asyncio.create_task(connect_to("broker", 5672))
    async with asyncio.timeout(10):
        await network.silent.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        while network.open():
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A port of 127.0.0.2 whose connections are neither accepted nor refused: its queue is full."""
    with contextlib.ExitStack() as held:
        hole = held.enter_context(socket.socket())
        hole.bind(("127.0.0.2", 0))
        hole.listen(0)
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        yield hole.getsockname()[1]


async def reach_the_second() -> None:
    async with black_hole() as port:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")

        async def resolve(*_: object) -> Found:
            return [(*kind, ("127.0.0.2", port)), (*kind, ("127.0.0.1", port))]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(addresses, "resolve", resolve)
            with contextlib.closing(await connect_to("broker", port)) as taken:
                assert taken.getpeername() == ("127.0.0.1", port)
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("test", [reach_the_second])
def test_on_real_sockets(
    new_loop: Callable[[], asyncio.AbstractEventLoop], test: Callable[[], Awaitable[None]]
) -> None:
    async def within_time() -> None:
        async with asyncio.timeout(10):
            await test()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(within_time())
