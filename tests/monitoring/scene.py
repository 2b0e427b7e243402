"""All that is scraped, as real parts, and all that can happen to it.

A RabbitMQ and a Redis, two workers, and a gateway with TLS and passwords, whose stations and whose
CSMS send requests of every kind.
"""

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import aio_pika
from aio_pika.exceptions import AMQPError
from websockets.exceptions import WebSocketException

from bridge import CallError, DataTransferRequest
from bridge.client.client import Client
from bridge.testing.rabbitmq import PrivateBroker, free_ports
from bridge.transport import TransportError
from tests.integration.raw_station import RawStation, make_certificate, raw_station
from tests.integration.support import GatewayProcess, WorkerProcess, close_connections
from tests.integration.test_session import memory_alarm
from tests.redis_server import RedisServer

PASSWORD: Final = b"the stations' own"
STATIONS: Final = 4
PER_ADDRESS: Final = 16
"""Connections of one address that the gateway allows."""
CALL_TIMEOUT: Final = 2.0
"""Seconds after which the gateway answers a station itself."""
LOST: Final = (
    AMQPError,
    CallError,
    OSError,
    TransportError,
    WebSocketException,
)
"""How a request of the scene may end that has no answer."""
TARGET: Final = "tests.monitoring.vendors:routers"


class Scene:
    """What runs, and where it is scraped."""

    def __init__(
        self, broker: PrivateBroker, redis: RedisServer, gateway: GatewayProcess, url: str
    ) -> None:
        self.broker = broker
        self.redis = redis
        self.url = url
        self._gateway = gateway
        self._numbers = itertools.count()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    # ---- what goes on all the time ----

    @contextlib.asynccontextmanager
    async def traffic(self, pause: float = 0.05) -> AsyncIterator[None]:
        """Stations, the CSMS and strangers send for as long as the block lasts.

        `pause`: seconds between two requests of one of them.
        """
        async with Client(self.url, timeout=5.0) as client:
            goings_on: list[Callable[[], Awaitable[None]]] = [
                *[self._station(f"CP{number}", "com.acme", "GetTariff") for number in range(4)],
                self._station("THREAD", "com.acme", "GetReading"),
                self._station("SLOW", "EN+", "GetLoad"),
                self._station("LATE", "net.lazy", "TakesLong"),
                self._station("BROKEN", "org.example", "Raises"),
                self._answering("WALLBOX"),
                self._to_station(client, "WALLBOX"),
                self._to_station(client, "NOWHERE"),
                self._csms(client, "com.acme", "GetTariff"),
                *[self._csms(client, "EN+", "GetLoad") for _ in range(6)],
                self._csms(client, "nobody", "Asks"),
                self._published,
            ]
            tasks = [asyncio.create_task(self._again_and_again(each, pause)) for each in goings_on]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _again_and_again(self, act: Callable[[], Awaitable[None]], pause: float) -> None:
        """A connection that is lost, or an answer that does not come, is part of the scene."""
        while True:
            with contextlib.suppress(*LOST):
                await act()
            await asyncio.sleep(pause)

    def _raw(
        self, name: str, password: bytes = PASSWORD
    ) -> contextlib.AbstractAsyncContextManager[RawStation]:
        url = self._gateway.url.replace("ws:", "wss:")
        return raw_station(f"{url}/{name}", password=password, ssl=self._tls)

    def _station(self, name: str, vendor: str, message: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            async with self._raw(name) as station:
                while True:
                    await station.call("DataTransfer", {"vendorId": vendor, "messageId": message})
                    await asyncio.sleep(0.02)

        return act

    def _answering(self, name: str) -> Callable[[], Awaitable[None]]:
        """A station that answers every other CALL."""

        async def act() -> None:
            async with self._raw(name) as station:
                for number in itertools.count():
                    _, message_id, *_ = await station.hear()
                    if number % 2:
                        await station.say([3, message_id, {"status": "Accepted"}])

        return act

    def _to_station(self, client: Client, name: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            await client.send_to_station(name, DataTransferRequest("com.acme", "Show"), timeout=1.0)

        return act

    def _csms(self, client: Client, vendor: str, message: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            await client.data_transfer("CP1", DataTransferRequest(vendor, message))

        return act

    async def _published(self) -> None:
        """Requests as only a gateway of somebody else's would send them."""
        async with await aio_pika.connect(self.url) as connection:
            exchange = await (await connection.channel()).get_exchange("datatransfer")
            while True:
                for reply_to, deadline in (
                    ("amq.gen-gone", 60.0),
                    ("somebody.else", 60.0),
                    ("amq.gen-gone", -1.0),
                ):
                    now = time.time()
                    message = aio_pika.Message(
                        b'{"vendorId":"com.acme","messageId":"GetTariff"}',
                        headers={
                            "ocpp-station-id": "CP1",
                            "ocpp-deadline": int((now + deadline) * 1000),
                        },
                        correlation_id=str(next(self._numbers)),
                        reply_to=reply_to,
                        timestamp=now,
                    )
                    await exchange.publish(message, "com.acme")
                await asyncio.sleep(0.2)

    # ---- what happens now and then ----

    async def failures(self) -> None:
        """Handlers that hang, ask for another try in vain, and block the event loop."""
        async with Client(self.url, timeout=10.0) as client:
            asked: list[Coroutine[Any, Any, object]] = [
                client.data_transfer("CP1", DataTransferRequest(vendor, message))
                for vendor, message in (
                    ("org.example", "Hangs"),
                    ("org.example", "NeverWorks"),
                    ("net.lazy", "Blocks"),
                )
            ]
            await asyncio.gather(*asked, return_exceptions=True)

    async def refusals(self) -> None:
        """A wrong password, more connections than are allowed, and more than may be in hand."""
        with contextlib.suppress(WebSocketException):
            async with self._raw("GUESS", b"wrong"):
                pass
        async with contextlib.AsyncExitStack() as crowd:
            with contextlib.suppress(OSError, WebSocketException):
                for number in range(PER_ADDRESS):
                    await crowd.enter_async_context(self._raw(f"CROWD{number}"))
        async with self._raw("GREEDY") as station:
            payload = {"vendorId": "net.lazy", "messageId": "TakesLong", "data": "x" * 700}
            for number in range(2):
                await station.say([2, f"greedy-{number}", "DataTransfer", payload])
            await station.hear()

    def lose_connections(self) -> None:
        """The broker closes every connection."""
        close_connections(self.broker, self.url)

    @contextlib.contextmanager
    def alarm(self) -> Any:
        """The broker has no memory left for as long as the block lasts."""
        with memory_alarm(self.broker):
            yield


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[tuple[Scene, dict[str, list[int]]]]:
    """The scene, and the ports on loopback where its parts are scraped, by their names.

    `folder`: for what it writes.
    """
    metrics, first, second, third = free_ports(4)
    cert, key = folder / "cert.pem", folder / "key.pem"
    make_certificate(cert, key)
    config = {"prometheus.tcp.ip": "127.0.0.1", "prometheus.tcp.port": metrics}
    plugins = ["rabbitmq_prometheus"]
    with (
        PrivateBroker(name="monitored", plugins=plugins, config=config) as broker,
        RedisServer() as redis,
    ):
        url = broker.add_vhost("monitored")
        async with (
            WorkerProcess(TARGET, url, http=f"127.0.0.1:{first}", idempotency=redis.url),
            WorkerProcess(TARGET, url, http=f"127.0.0.1:{second}", idempotency=redis.url),
            GatewayProcess(
                url,
                http=f"127.0.0.1:{third}",
                tls_cert=cert,
                tls_key=key,
                station_password=PASSWORD.decode(),
                call_timeout=CALL_TIMEOUT,
                max_message=1024,
                max_per_address=PER_ADDRESS,
                log_level="info",
            ) as gateway,
        ):
            yield (
                Scene(broker, redis, gateway, url),
                {"worker": [first, second], "gateway": [third], "rabbitmq": [metrics]},
            )
