"""A TCP proxy between worker and broker: it shows a witness every frame, and breaks on demand."""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Callable
from typing import Final, Self

import msgspec
from yarl import URL

from tests.faults.witness import Witness

CHUNK: Final = 65_536
DELIVER: Final = (60, 60)
PUBLISH: Final = (60, 40)
ACK: Final = (60, 80)
_NOW: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: on with 0 s, so that closing resets the connection."""


class Cut(msgspec.Struct):
    """Ends a connection in the middle of the next frame of a method.

    The count goes on into the frames that follow, so a message's header and body can be cut, too.
    """

    method: tuple[int, int]
    """Class id and method id."""
    to_broker: bool
    after: int
    """How many bytes, from the start of that frame, still get through."""


class FrameSplitter:
    """Splits a stream of bytes into frames. The client's protocol header counts as one."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._buffer
        buffer += data
        frames = []
        while True:
            if buffer[:4] == b"AMQP":
                size = 8
            elif len(buffer) >= 7:
                size = int.from_bytes(buffer[3:7]) + 8
            else:
                break
            if len(buffer) < size:
                break
            frames.append(bytes(buffer[:size]))
            del buffer[:size]
        return frames


class Pair:
    """One connection of a worker, with the proxy's own connection to the broker behind it."""

    def __init__(self, proxy: "Proxy", number: int) -> None:
        self._proxy = proxy
        self.number = number
        self._writers: list[asyncio.StreamWriter] = []
        self.passing = asyncio.Event()
        self.passing.set()
        self._cut_left: int | None = None

    async def run(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        self._writers = [client_out]
        try:
            broker_in, broker_out = await asyncio.open_connection(*self._proxy.target)
        except OSError:
            self.reset()
            return
        self._writers.append(broker_out)
        relays = [
            asyncio.create_task(self._relay(client_in, broker_out, to_broker=True)),
            asyncio.create_task(self._relay(broker_in, client_out, to_broker=False)),
        ]
        try:
            await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(relays, timeout=0.2)  # the other half may have something left to say
        finally:
            for relay in relays:
                relay.cancel()
            await asyncio.wait(relays)
            self._close()
            if self._cut_left is not None:
                self._proxy.cutting = False
            self._proxy.witness.gone(self.number)

    async def _relay(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, to_broker: bool
    ) -> None:
        splitter = FrameSplitter()
        with contextlib.suppress(OSError):
            while data := await source.read(self._proxy.slow_chunk if to_broker else CHUNK):
                await self.passing.wait()
                if to_broker and self._proxy.slow_seconds:
                    await asyncio.sleep(self._proxy.slow_seconds)
                passed: list[bytes] = []
                for frame in splitter.feed(data):
                    part = self._uncut(frame, to_broker=to_broker)
                    if part is not None:
                        sink.write(b"".join([*passed, part]))
                        return
                    self._proxy.witness.saw(self.number, frame, to_broker=to_broker)
                    passed.append(frame)
                sink.write(b"".join(passed))
                await sink.drain()

    def _uncut(self, frame: bytes, *, to_broker: bool) -> bytes | None:
        """The part of a frame that gets through before the cut; None if it gets through whole."""
        cut = self._proxy.cut
        if cut is None or cut.to_broker is not to_broker:
            return None
        if self._cut_left is None:
            if (
                self._proxy.cutting
                or frame[0] != 1
                or struct.unpack_from("!HH", frame, 7) != cut.method
            ):
                return None
            self._proxy.cutting = True
            self._cut_left = cut.after
        if self._cut_left >= len(frame):
            self._cut_left -= len(frame)
            return None
        self._proxy.cut = None
        self._proxy.cutting = False
        self._proxy.has_cut.set()
        return frame[: self._cut_left]

    def swallow(self) -> None:
        """Let nothing through any more. Once the broker notices, it redelivers what was in hand."""
        self.passing.clear()
        self._proxy.witness.gone(self.number)

    def inject(self, data: bytes) -> None:
        """Send the worker something that the broker did not say, if the worker is still there."""
        if not self._writers[0].transport.is_closing():
            self._writers[0].write(data)

    def reset(self) -> None:
        """Reset both halves at once (RST); what is under way is lost."""
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if raw is None:  # it has ended by itself
                continue
            with contextlib.suppress(OSError, ValueError):  # it is closing
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
            writer.transport.abort()

    def _close(self) -> None:
        for writer in self._writers:
            writer.close()


class Proxy:
    """Stands before one node. Whatever it breaks, it breaks for all of its connections."""

    def __init__(self, url: str, witness: Witness, numbers: "itertools.count[int]") -> None:
        """`url`: the node's. `numbers`: numbers for connections, shared by a witness's proxies."""
        self._url = URL(url)
        self.target = (str(self._url.host), int(self._url.port or 5672))
        self.witness = witness
        self._numbers = numbers
        self._server: asyncio.Server | None = None
        self._pairs: dict[Pair, asyncio.Task[None]] = {}
        self.port = 0
        self.refusing = False
        self.accepted = 0
        self.slow_seconds = 0.0
        self.slow_chunk = CHUNK
        self.cut: Cut | None = None
        self.cutting = False
        self.has_cut = asyncio.Event()

    def url(self, **options: str) -> str:
        """The URL for the worker, with options such as `heartbeat`."""
        return str(self._url.with_host("127.0.0.1").with_port(self.port).with_query(options))

    async def __aenter__(self) -> Self:
        listening = socket.socket()
        # A small receive buffer, so that the worker feels a slow reader.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
        listening.bind(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pair, task in list(self._pairs.items()):
            pair.reset()
            task.cancel()
        if self._pairs:
            await asyncio.wait(self._pairs.values())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        pair = Pair(self, next(self._numbers))
        task = asyncio.current_task()
        assert task is not None
        self._pairs[pair] = task
        try:
            await pair.run(reader, writer)
        except asyncio.CancelledError:
            return
        finally:
            del self._pairs[pair]

    def _each(self, action: Callable[[Pair], None]) -> None:
        for pair in tuple(self._pairs):
            action(pair)

    def reset(self) -> None:
        """Reset every connection."""
        self._each(Pair.reset)

    def cut_next(self, cut: Cut) -> None:
        """Cut the next connection that carries a frame of that method."""
        self.cut = cut
        self.cutting = False
        self.has_cut.clear()

    def swallow(self) -> None:
        """Let nothing pass on the connections that are open now, and tell nobody."""
        self._each(Pair.swallow)

    def inject(self, data: bytes) -> None:
        """Send something to every worker in the broker's name."""
        self._each(lambda pair: pair.inject(data))

    def slow_down(self, bytes_per_second: int) -> None:
        """Read from workers at this pace; 0 is as fast as they write."""
        self.slow_chunk = max(1, bytes_per_second // 20) if bytes_per_second else CHUNK
        self.slow_seconds = 0.05 if bytes_per_second else 0.0
