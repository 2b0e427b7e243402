"""What every worker of the benchmark does: the same typed request, handler and typed answer."""

import argparse
import asyncio
import os
from typing import NamedTuple

import msgspec


class MeterSample(msgspec.Struct, rename="camel"):
    """`data` of the request: a meter reading, as a vendor's charging station would send it."""

    meter: int
    energy_wh: int
    power_w: int = 0
    voltage_v: list[float] = []
    current_a: list[float] = []
    note: str = ""


class MeterAck(msgspec.Struct, rename="camel"):
    """`data` of the answer."""

    meter: int
    total_wh: int


class Request(msgspec.Struct, rename="camel"):
    """The DataTransferRequest (OCPP 2.0.1 §1.26.1), for workers that have no OCPP of their own."""

    vendor_id: str
    message_id: str
    data: MeterSample


class Response(msgspec.Struct, rename="camel"):
    """The DataTransferResponse (OCPP 2.0.1 §1.26.2)."""

    status: str
    data: MeterAck


WAIT_SECONDS = float(os.environ.get("BENCH_WAIT_MS", "0")) / 1000
"""How long the handler waits, as it would for a database."""

RESPONSE_TYPE = "DataTransferResponse"
"""The AMQP property `type` of a reply."""

_decode = msgspec.json.Decoder(Request).decode
_encode = msgspec.json.Encoder().encode


def vendor_ids(count: int) -> list[str]:
    """Vendor ids that are their own routing keys: one real name, or many short ones."""
    return ["com.acme"] if count == 1 else [f"v{number:04}" for number in range(count)]


def queue_name(vendor_id: str) -> str:
    """The queue of a vendor."""
    return f"datatransfer.{vendor_id}"


async def meter_sample(data: MeterSample) -> MeterAck:
    """The handler."""
    if WAIT_SECONDS:
        await asyncio.sleep(WAIT_SECONDS)
    return MeterAck(data.meter, data.energy_wh)


async def answer(body: bytes) -> bytes:
    """The whole job between two messages, for the peers that carry bytes."""
    request = _decode(body)
    return _encode(Response("Accepted", await meter_sample(request.data)))


class PeerOptions(NamedTuple):
    """The command line of every peer."""

    url: str
    prefetch: int
    queues: list[str]


def peer_options() -> PeerOptions:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--prefetch", type=int, default=200)
    parser.add_argument("--queue", action="append", required=True)
    given = parser.parse_args()
    return PeerOptions(given.url, given.prefetch, given.queue)
