"""Stations that are connected over TLS, and say nothing.

They are there to see what memory a gateway needs for them. As fleet.c does, it prints
{"event":"connected"} when all are connected, and reads a line; at the next line it ends.
"""

import argparse
import asyncio
import json
import ssl
import sys

AT_ONCE = 16
"""Handshakes at a time."""
CONNECT_SECONDS = 120.0
"""How long a gateway may take to start, and to let all in."""
AGAIN_SECONDS = 0.2
"""After which a station that was not let in comes again."""
LONGEST_SECONDS = 600.0

REQUEST = (
    "GET /CS-{number:06} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n"
)

Station = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def any_certificate() -> ssl.SSLContext:
    """Stations that look at no certificate: it is the gateway that is measured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def connect(number: int, port: int, context: ssl.SSLContext) -> Station:
    """One station, however often it takes."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(REQUEST.format(number=number).encode())
            response = await reader.readuntil(b"\r\n\r\n")
        except (OSError, EOFError):
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        if not response.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(response.decode(errors="replace"))
        return reader, writer


async def hold(port: int, count: int) -> None:
    """Connect the stations, and hold them until a line comes."""
    context, room = any_certificate(), asyncio.Semaphore(AT_ONCE)

    async def come(number: int) -> Station:
        async with room:
            return await connect(number, port, context)

    async with asyncio.timeout(CONNECT_SECONDS):
        stations = await asyncio.gather(*(come(number) for number in range(count)))
    for event in ({"event": "connected"}, {"connected": len(stations)}):
        print(json.dumps(event), flush=True)  # noqa: T201 - its output is its result
        async with asyncio.timeout(LONGEST_SECONDS):
            await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--stations", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(hold(given.port, given.stations))
