"""Random requests: bodies and properties that no honest gateway would send. All from one seed."""

import asyncio
import datetime as dt
import random
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any, Final

import msgspec
from pamqp.commands import Basic

from tests.faults import extent
from tests.faults.catalogue import fault
from tests.faults.handlers import VENDOR
from tests.faults.load import Load, Message
from tests.faults.stage import Stage

GROWTH_KIB: Final = 65_536
"""Kibibytes by which a worker's memory may grow: enough for the stored answers, no more."""


def _valid(chance: random.Random) -> bytes:
    data: Any = chance.choice(
        [
            {"number": chance.randrange(2**53)},
            '{"number": 1}',
            None,
            [],
            "x" * 20,
            1e308,
            {"number": "1"},
        ]
    )
    fields = {
        "vendorId": VENDOR,
        "messageId": chance.choice(["Echo", "Echo", "Nope", "", None]),
        "data": data,
    }
    return msgspec.json.encode(fields)


def _mutated(chance: random.Random) -> bytes:
    body = bytearray(_valid(chance))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(body) or 1)
        match chance.randrange(4):
            case 0:
                body[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del body[place:]
            case 2:
                body[place:place] = chance.randbytes(chance.randint(1, 8))
            case _:
                body[place:place] = body[chance.randrange(len(body) or 1) :]
    return bytes(body)


def _nested(chance: random.Random) -> bytes:
    depth = chance.choice([10, 500, 5_000, 50_000])
    opening, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    filling = opening * depth + b"1" + (closing * depth if chance.random() < 0.7 else b"")
    return b'{"vendorId":"%s","messageId":"Echo","data":%s}' % (VENDOR.encode(), filling)


def _of_another_type(chance: random.Random) -> bytes:
    values = [
        b"null",
        b"12",
        b"1e999",
        b"-" + b"9" * 400,
        b"true",
        b"[]",
        b"{}",
        b'""',
        b'"\\ud800"',
        b'"\xff\xfe"',
        b"NaN",
    ]
    fields = (b"vendorId", b"messageId", b"data", b"customData", b"vendorid", b"")
    pairs = [
        b'"%s":%s' % (chance.choice(fields), chance.choice(values))
        for _ in range(chance.randint(0, 6))
    ]
    return b"{" + b",".join(pairs) + b"}"


def _long(chance: random.Random) -> bytes:
    length = chance.choice([50, 51, 255, 256, 10_000])
    return msgspec.json.encode(
        {
            "vendorId": chance.choice("aé😀") * length,
            "messageId": "b" * chance.choice([50, 51, 5_000]),
        }
    )


BODIES: Final[tuple[Callable[[random.Random], bytes], ...]] = (
    _valid,
    _valid,
    _mutated,
    _mutated,
    _nested,
    _of_another_type,
    _long,
    lambda chance: chance.randbytes(chance.randrange(300)),
    lambda chance: b"",
    lambda chance: (
        b'{"vendorId":"%s","vendorId":"x","messageId":"Echo","messageId":"Echo"}' % VENDOR.encode()
    ),
    lambda chance: b"\xef\xbb\xbf" + _valid(chance),
    lambda chance: _valid(chance) * 2,
)

HOSTILE_REPLY_TO: Final = (
    "datatransfer.dead",
    "datatransfer.faults.load",
    "datatransfer.retry.100",
    "amq.gen-nobody-has-this",
    "amq.rabbitmq.reply-to.forged",
    "amq.rabbitmq.reply-to.g1hkABFy.AAAA==",
    "datatransfer.replies.nobody",
    "#",
    "é" * 100,
    "a" * 255,
)


def _value(chance: random.Random, depth: int = 0) -> Any:
    """A value for a field table, of any type there is.

    No NaN and no infinity: RabbitMQ 3.10 ends the connection that sends one.
    """
    simple: tuple[Any, ...] = (
        None,
        True,
        0,
        -1,
        2**31,
        2**63 - 1,
        -(2**63),
        1.5,
        "",
        "é" * 50,
        "\x00\n\x1b[31m",
        "a" * chance.choice([256, 3_000]),
        bytearray(chance.randbytes(8)),
        Decimal("1.5"),
        dt.datetime(2001, 1, 1, tzinfo=dt.UTC),
    )
    if depth < 3 and chance.random() < 0.2:
        return {str(number): _value(chance, depth + 1) for number in range(chance.randint(0, 3))}
    if depth < 3 and chance.random() < 0.2:
        return [_value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    return chance.choice(simple)


def _headers(chance: random.Random) -> dict[str, Any] | None:
    """Headers, likely and unlikely ones.

    No x-death: if RabbitMQ 3.10 has not made that header itself, its dead-lettering stops at the
    message, whoever rejects it.
    """
    if chance.random() < 0.1:
        return None
    headers: dict[str, Any] = {"ocpp-station-id": f"CP{chance.randrange(50):03}"}
    if chance.random() < 0.6:
        headers["ocpp-version"] = chance.choice(
            ["ocpp1.6", "ocpp2.0", "ocpp2.0.1", "ocpp2.1", "ocpp9", _value(chance)]
        )
    if chance.random() < 0.3:
        headers["ocpp-deadline"] = chance.choice(
            [
                int(time.time() * 1000) + 60_000,
                0,
                -1,
                2**63 - 1,
                int(time.time() * 1000),
                _value(chance),
            ]
        )
    for name in (
        "ocpp-station-id",
        "traceparent",
        "tracestate",
        "dtbridge-attempt",
        "dtbridge-first-try",
        "x-own",
        "é",
    ):
        if chance.random() < 0.08:
            headers[name] = _value(chance)
    if chance.random() < 0.03:
        headers[chance.choice(["CC", "BCC"])] = [VENDOR, "datatransfer.dead"]
    return headers


def make(load: Load, number: int, reply_to: str) -> Message:
    """One random request."""
    chance = load.random
    asked: str | None = reply_to
    correlation_id: str | None = load.correlation_id(number)
    answerable = True
    if chance.random() < 0.2:
        asked = chance.choice([None, *HOSTILE_REPLY_TO])
        answerable = False
    if chance.random() < 0.1:
        correlation_id = None
        answerable = False
    properties = Basic.Properties(
        content_type=chance.choice(["application/json", None, "text/plain", "é" * 60]),
        content_encoding=chance.choice([None, None, "gzip", "utf-8"]),
        headers=_headers(chance),
        delivery_mode=chance.choice([None, 1, 2]),
        priority=chance.choice([None, 0, 255]),
        correlation_id=correlation_id,
        reply_to=asked,
        expiration=chance.choice([None, None, None, "60000", "4294967295", "0"]),
        message_id=chance.choice(["1", f"{load.name}-{number}", "m" * 255, "\x00"]),
        timestamp=chance.choice([None, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]),
        message_type=chance.choice(["DataTransfer", None, "CallError", "x" * 200]),
        app_id=chance.choice([None, "é"]),
    )
    key = chance.choice([VENDOR] * 8 + ["", "nobody"])
    body = chance.choice(BODIES)(chance)
    return Message(body, properties, key, message="Fuzz", answerable=answerable)


@fault(
    "requests made of chance",
    make=make,
    rate=1000.0,
    workers=1,
    hold=0.0,
    warm_up=0.5,
    cool_down=0.2,
    may_expire=True,
)
async def fuzzed(stage: Stage) -> AsyncIterator[None]:
    pid = stage.workers[0].pid
    before = await stage.vitals(pid)
    while len(stage.load.sent) < extent.FUZZED:
        await asyncio.sleep(0.1)
    await stage.load.idle(60.0)
    after = await stage.vitals(pid)
    stage.load.running.set()
    grown = after.resident_kib - before.resident_kib
    stage.notes.append(
        f"{stage.load.uncorrelated} answers to requests without correlation id; "
        f"memory {grown / 1024:+.0f} MiB"
    )
    if grown > GROWTH_KIB:
        stage.complaints.append(f"the worker's memory grew by {grown} KiB")
    if stage.proxies[0].accepted > 2:
        stage.complaints.append("a request ended a connection")
    yield
