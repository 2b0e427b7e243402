"""A WebSocket server on a free port, with a stand-in for the bridge."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from bridge.gateway.websocket.server import Gateway
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.ocpp import OcppVersion
from bridge.request.outcome import Reply
from tests.integration.raw_station import PATIENCE, RawStation, raw_station


class StandIn:
    """A bridge that accepts every DataTransfer and echoes its payload, unless told to wait."""

    def __init__(self) -> None:
        self.counts = msgspec.defstruct("Counts", [])()
        self.handlers: dict[str, Any] = {}
        self.lost: list[str] = []
        """Stations that the broker was to unbind."""
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.changed = asyncio.Event()

    def add_station(
        self,
        station_id: str,
        version: OcppVersion | str,
        handler: Any,
        on_reachable: Callable[[], None],
    ) -> None:
        self.handlers[station_id] = handler
        self.changed.set()
        on_reachable()

    def lose_station(
        self, station_id: str, handler: Any
    ) -> Callable[[Callable[[], None]], None] | None:
        self.changed.set()
        if self.handlers.get(station_id) is not handler:
            return None
        del self.handlers[station_id]
        self.lost.append(station_id)
        return lambda on_left: on_left()

    async def drain(self, timeout: float) -> int:
        return 0

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def start_forward(
        self,
        station_id: str,
        version: OcppVersion,
        payload: bytes,
        message_id: str,
        timeout: float,
        on_reply: Callable[[Reply | Exception], None],
    ) -> "Forwarded":
        data = {"station": station_id, "version": version, "data": json.loads(payload).get("data")}
        reply = Reply(json.dumps({"status": "Accepted", "data": data}).encode())
        return Forwarded(asyncio.create_task(self._reply(reply, on_reply)))

    async def _reply(self, reply: Reply, on_reply: Callable[[Reply | Exception], None]) -> None:
        await self.goes_on.wait()
        on_reply(reply)


class Forwarded:
    """A request that the stand-in is going to answer."""

    def __init__(self, answering: asyncio.Task[None]) -> None:
        self._answering = answering

    def abandon(self) -> None:
        self._answering.cancel()


class Running:
    """A gateway on a free port."""

    def __init__(self, gateway: Gateway, link: StandIn, port: int, scheme: str) -> None:
        self.gateway = gateway
        self.link = link
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"

    def station(
        self, name: str = "CP001", **options: Any
    ) -> contextlib.AbstractAsyncContextManager[RawStation]:
        return raw_station(f"{self.url}/{name}", **options)


@contextlib.asynccontextmanager
async def running(passwords: Any = None, **settings: Any) -> AsyncIterator[Running]:
    link = StandIn()
    gateway = Gateway(link, GatewaySettings(port=0, **settings), passwords)
    task = asyncio.create_task(gateway.run())
    ((_, port),) = await gateway.listening()
    try:
        yield Running(gateway, link, port, "ws" if settings.get("tls") is None else "wss")
    finally:
        gateway.stop()
        async with asyncio.timeout(PATIENCE):
            await task
        assert gateway.connections == 0
        assert gateway.stations == {}
        assert link.handlers == {}


async def refusal(here: Running, path: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with raw_station(here.url + path, **options):
            pass
    return caught.value.response.status_code
