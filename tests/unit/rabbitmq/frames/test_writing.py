"""Frames written by example, and what cannot be."""

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from bridge.rabbitmq.frames.ids import HEARTBEAT_FRAME
from bridge.rabbitmq.frames.writing import Encoder, encode_ack, encode_nack, encode_reject
from bridge.transport import Properties, Publishing
from tests.unit.rabbitmq.frames.samples import (
    ALL_FLAGS,
    ALL_PROPERTIES,
    ALL_PROPERTIES_BYTES,
    FRAME_MAX,
    MAX_PAYLOAD,
    MIB,
    SIZES,
)
from tests.unit.rabbitmq.wire import (
    HEARTBEAT,
    ack,
    frame,
    frames_of,
    header_payload,
    method,
    short,
)


def test_acknowledgements_are_these_bytes() -> None:
    assert encode_ack(1, 5, multiple=False) == ack(1, 5)
    assert encode_ack(65_535, 2**64 - 1, multiple=True) == ack(65_535, 2**64 - 1, multiple=True)
    tag = struct.pack(">Q", 7)
    assert encode_nack(1, 7, multiple=True, requeue=False) == frame(
        1, 1, method(60, 120, tag, b"\x01")
    )
    assert encode_nack(1, 7, multiple=False, requeue=True) == frame(
        1, 1, method(60, 120, tag, b"\x02")
    )
    assert encode_nack(1, 7, multiple=True, requeue=True) == frame(
        1, 1, method(60, 120, tag, b"\x03")
    )
    assert encode_reject(1, 7, requeue=False) == frame(1, 1, method(60, 90, tag, b"\x00"))
    assert encode_reject(1, 7, requeue=True) == frame(1, 1, method(60, 90, tag, b"\x01"))
    assert HEARTBEAT_FRAME == HEARTBEAT


def test_every_property_has_its_flag_and_its_place() -> None:
    assert Encoder().properties(Properties()) == (0, b"")
    assert Encoder().properties(ALL_PROPERTIES) == (ALL_FLAGS, ALL_PROPERTIES_BYTES)


@pytest.mark.parametrize("mandatory", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_publishing_is_method_header_and_as_many_bodies_as_it_needs(
    size: int, mandatory: bool
) -> None:
    data = bytes(n & 0xFF for n in range(size))
    publishing = Publishing("key", data, ALL_PROPERTIES, exchange="x", mandatory=mandatory)
    sent = list(frames_of(Encoder(FRAME_MAX).publish(3, publishing)))
    assert sent[:2] == [
        (1, 3, method(60, 40, b"\x00\x00", short(b"x"), short(b"key"), bytes((mandatory,)))),
        (2, 3, header_payload(size, ALL_FLAGS, ALL_PROPERTIES_BYTES)),
    ]
    assert [(kind, channel) for kind, channel, _ in sent[2:]] == [(3, 3)] * -(-size // MAX_PAYLOAD)
    assert all(0 < len(payload) <= MAX_PAYLOAD for _, _, payload in sent[2:])
    assert b"".join(payload for _, _, payload in sent[2:]) == data


@pytest.mark.parametrize("size", SIZES)
def test_a_publishing_in_parts_is_the_same_and_has_no_copy_of_the_body(size: int) -> None:
    data = bytes(n & 0xFF for n in range(size))
    publishing = Publishing("key", data, ALL_PROPERTIES, exchange="x", correlation_id="c")
    encoder = Encoder(FRAME_MAX)
    parts = encoder.publish_large(3, publishing)
    assert b"".join(parts) == encoder.publish(3, publishing)
    views = [part for part in parts if isinstance(part, memoryview)]
    assert all(view.obj is data for view in views)
    assert sum(map(len, views)) == size


def test_a_publishing_of_5_mib_fits_the_frames() -> None:
    data = bytes(5 * MIB)
    sent = list(frames_of(Encoder().publish(1, Publishing("key", data, Properties()))))
    assert [len(payload) for _, _, payload in sent[2:-1]] == [131_064] * (5 * MIB // 131_064)
    assert b"".join(payload for _, _, payload in sent[2:]) == data


def test_publishings_to_more_queues_than_are_remembered_are_all_right() -> None:
    encoder = Encoder()
    keys = [f"reply-{n}" for n in range(5_000)]
    for key in keys + keys[:3]:
        _, _, payload = next(frames_of(encoder.publish(1, Publishing(key, b"", Properties()))))
        assert payload == method(60, 40, b"\x00\x00\x00", short(key.encode()), b"\x00")


def test_channel_exchange_and_mandatory_are_not_mixed_up_for_one_routing_key() -> None:
    encoder = Encoder()
    for channel in (1, 2):
        for exchange in ("", "x"):
            for mandatory in (False, True):
                publishing = Publishing(
                    "same", b"", Properties(), exchange=exchange, mandatory=mandatory
                )
                first = next(frames_of(encoder.publish(channel, publishing)))
                arguments = (
                    b"\x00\x00",
                    short(exchange.encode()),
                    short(b"same"),
                    bytes((mandatory,)),
                )
                assert first == (1, channel, method(60, 40, *arguments))


def test_properties_fill_a_frame_to_the_last_byte_and_no_further() -> None:
    headers = {"a": "x" * (FRAME_MAX - 8 - 14 - 11)}
    _, (kind, _, payload) = frames_of(
        Encoder(FRAME_MAX).publish(1, Publishing("k", b"", Properties(headers=headers)))
    )
    assert (kind, len(payload)) == (2, MAX_PAYLOAD)
    headers["a"] += "x"
    with pytest.raises(ValueError, match="do not fit a frame"):
        Encoder(FRAME_MAX).publish(1, Publishing("k", b"", Properties(headers=headers)))


UNSENDABLE: tuple[Publishing, ...] = (
    Publishing("k" * 256, b"", Properties()),
    Publishing("é" * 128, b"", Properties()),
    Publishing("k", b"", Properties(), exchange="x" * 256),
    Publishing("k", b"", Properties(correlation_id="c" * 256)),
    Publishing("k", b"", Properties(type="t" * 256)),
    Publishing("k", b"", Properties(reply_to="\ud800")),
    Publishing("k", b"", Properties(delivery_mode=256)),
    Publishing("k", b"", Properties(delivery_mode=-1)),
    Publishing("k", b"", Properties(priority=256)),
    Publishing("k", b"", Properties(priority=-1)),
    Publishing("k", b"", Properties(timestamp=-1)),
    Publishing("k", b"", Properties(timestamp=2**64)),
    *(
        Publishing("k", b"", Properties(headers={"a": value}))
        for value in (
            2**63,
            -(2**63) - 1,
            Decimal(2**31),
            Decimal("1e-256"),
            Decimal("1e+999999"),
            Decimal("1e-999999"),
            Decimal("NaN"),
            Decimal("Infinity"),
            Decimal("0." + "0" * 30 + "12345678901"),
            datetime(1969, 12, 31, tzinfo=UTC),
            "\ud800",
            object(),
            [object()],
            {"b": {1, 2}},
            {"n" * 256: None},
        )
    ),
)


@pytest.mark.parametrize("publishing", UNSENDABLE)
def test_what_amqp_cannot_carry_is_a_value_error(publishing: Publishing) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind and text
        Encoder().publish(1, publishing)


def test_a_text_too_long_is_named_with_its_size() -> None:
    with pytest.raises(ValueError, match="short string of 256 bytes"):
        Encoder().publish(1, Publishing("k" * 256, b"", Properties()))


def test_a_header_that_contains_itself_is_refused() -> None:
    table_of_itself: dict[str, Any] = {}
    table_of_itself["a"] = [table_of_itself]
    with pytest.raises(ValueError, match="at most 100 levels"):
        Encoder().table(table_of_itself)


def test_more_properties_than_are_remembered_are_all_right() -> None:
    encoder = Encoder()
    for number in range(5_000):
        shared = Properties(type=f"type-{number}")
        data = encoder.publish(1, Publishing("k", b"", shared, correlation_id="c"))
        _, (_, _, payload) = frames_of(data)
        kind = short(f"type-{number}".encode())
        assert payload == header_payload(0, 0x0420, short(b"c") + kind)
