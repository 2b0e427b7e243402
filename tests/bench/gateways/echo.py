"""The base: a server on `websockets` that answers each CALL by itself, and nothing else."""

import json

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.bench.gateways.peer import peer_options


async def answer(station: ServerConnection) -> None:
    """Answer every CALL of a station."""
    async for message in station:
        _, message_id, _, _ = json.loads(message)
        result = [3, message_id, {"status": "Accepted"}]
        await station.send(json.dumps(result, separators=(",", ":")))


async def main() -> None:
    """Serve until the process is ended."""
    options = peer_options()
    async with serve(
        answer, "127.0.0.1", options.port, subprotocols=[Subprotocol("ocpp1.6")], ssl=options.tls
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
