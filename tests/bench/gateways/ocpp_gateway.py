"""A gateway as a team writes it in Python: `ocpp` of The Mobility House, `websockets`, aio-pika.

It is written as their documentation shows, and keeps the wire contract (docs/contract.md): a
station's DataTransfer goes out with a publisher confirm and awaits its reply by correlation id, and
the CSMS's requests come to one private queue that is bound to the key of each station.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import aio_pika
import uvloop
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage, AbstractQueue
from ocpp.routing import on
from ocpp.v16 import ChargePoint as OcppChargePoint
from ocpp.v16 import call, call_result
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.bench.gateways.peer import PeerOptions, peer_options

TIMEOUT = 30.0
"""Seconds that a station waits."""
PREFETCH = 200
"""Requests to stations in hand."""


def to_json(value: Any) -> str:
    """JSON without spaces, as `ocpp` writes it."""
    return json.dumps(value, separators=(",", ":"))


class Bridge:
    """The broker's side: requests and their replies by correlation id."""

    def __init__(
        self, requests: AbstractExchange, to_stations: AbstractExchange, replies: AbstractQueue
    ) -> None:
        self._requests = requests
        self._to_stations = to_stations
        self._replies = replies
        self._waiting: dict[str, asyncio.Future[AbstractIncomingMessage]] = {}
        self._stations: dict[str, ChargePoint] = {}
        self.queue: AbstractQueue | None = None
        """The private queue of requests to stations."""
        self.default_exchange: AbstractExchange | None = None

    # ---- station → CSMS ----

    async def ask(self, station_id: str, message_id: str, payload: Mapping[str, Any]) -> Any:
        """Publish a request and await the reply's payload.

        Raises TimeoutError if none comes.
        """
        correlation_id = str(uuid4())
        reply: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = reply
        try:
            request = aio_pika.Message(
                to_json(payload).encode(),
                content_type="application/json",
                type="DataTransfer",
                message_id=message_id,
                correlation_id=correlation_id,
                reply_to=self._replies.name,
                expiration=TIMEOUT,
                headers={
                    "ocpp-station-id": station_id,
                    "ocpp-version": "ocpp1.6",
                    "ocpp-deadline": int((time.time() + TIMEOUT) * 1000),
                },
            )
            await self._requests.publish(request, routing_key=payload["vendorId"])
            answer = await asyncio.wait_for(reply, TIMEOUT)
            return json.loads(answer.body)
        finally:
            del self._waiting[correlation_id]

    async def on_reply(self, message: AbstractIncomingMessage) -> None:
        """Give a reply to who awaits it."""
        reply = self._waiting.get(message.correlation_id or "")
        if reply is not None and not reply.done():
            reply.set_result(message)

    # ---- CSMS → station ----

    async def connect(self, station: "ChargePoint") -> None:
        """Route the CSMS's requests for a station here."""
        assert self.queue
        self._stations[station.id] = station
        await self.queue.bind(self._to_stations, station.id)

    async def disconnect(self, station: "ChargePoint") -> None:
        """Route them here no longer, unless the station has come back meanwhile."""
        if self._stations.get(station.id) is not station:
            return
        assert self.queue
        del self._stations[station.id]
        await self.queue.unbind(self._to_stations, station.id)

    async def on_request(self, message: AbstractIncomingMessage) -> None:
        """Ask a station what the CSMS asks it, and publish what it answers."""
        assert self.default_exchange
        station_id = str(message.headers["ocpp-station-id"])
        async with message.process():
            station = self._stations.get(station_id)
            if station is None or message.reply_to is None:
                return
            payload = json.loads(message.body)
            data = payload.get("data")
            answer = await station.call(
                call.DataTransfer(
                    vendor_id=payload["vendorId"],
                    message_id=payload.get("messageId"),
                    data=data if data is None or isinstance(data, str) else to_json(data),
                ),
                suppress=False,
            )
            body = {"status": answer.status}
            if answer.data is not None:
                body["data"] = answer.data
            reply = aio_pika.Message(
                to_json(body).encode(),
                content_type="application/json",
                type="DataTransferResponse",
                correlation_id=message.correlation_id,
                headers={"ocpp-station-id": station_id, "ocpp-version": "ocpp1.6"},
            )
            await self.default_exchange.publish(reply, routing_key=message.reply_to)


class ChargePoint(OcppChargePoint):  # type: ignore[misc]  # the package is untyped
    """One connected station."""

    def __init__(self, station_id: str, connection: ServerConnection, bridge: Bridge) -> None:
        super().__init__(station_id, connection)
        self._bridge = bridge

    @on("DataTransfer")  # type: ignore[untyped-decorator]  # the same
    async def on_data_transfer(
        self,
        vendor_id: str,
        call_unique_id: str,
        message_id: str | None = None,
        data: str | None = None,
    ) -> Any:
        """Ask the CSMS."""
        fields = {"vendorId": vendor_id, "messageId": message_id, "data": data}
        payload = {name: value for name, value in fields.items() if value is not None}
        answer = await self._bridge.ask(self.id, call_unique_id, payload)
        return call_result.DataTransfer(status=answer["status"], data=answer.get("data"))


async def open_bridge(url: str) -> Bridge:
    """Connect to the broker, and consume."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=True)
    await channel.set_qos(prefetch_count=PREFETCH)
    requests = await channel.get_exchange("datatransfer")
    to_stations = await channel.declare_exchange("datatransfer.stations", "direct", durable=True)
    # aio-pika makes a name of its own, which the contract does not allow for replies.
    replies = await channel.declare_queue(f"datatransfer.replies.{uuid4()}", exclusive=True)
    bridge = Bridge(requests, to_stations, replies)
    bridge.default_exchange = channel.default_exchange
    bridge.queue = await channel.declare_queue(exclusive=True)
    await replies.consume(bridge.on_reply, no_ack=True)
    await bridge.queue.consume(bridge.on_request)
    return bridge


async def main(options: PeerOptions) -> None:
    """Serve until the process is ended."""
    bridge = await open_bridge(options.url)

    async def on_connect(connection: ServerConnection) -> None:
        assert connection.request
        station = ChargePoint(connection.request.path.strip("/"), connection, bridge)
        await bridge.connect(station)
        try:
            await station.start()
        except ConnectionClosed:
            pass
        finally:
            await bridge.disconnect(station)

    async with serve(
        on_connect,
        "127.0.0.1",
        options.port,
        subprotocols=[Subprotocol("ocpp1.6")],
        ssl=options.tls,
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    given = peer_options()
    (uvloop.run if given.uvloop else asyncio.run)(main(given))
