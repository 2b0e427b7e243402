"""The codec against pamqp, both ways; and against chance: any pieces, any bytes, any bit turned.

pamqp 4.0.1 has ways of its own, which the strategies avoid so that both sides mean the same value:

* it leaves out properties that are the empty string, and cannot write ``bytes`` in a field table;
* it writes a float as 32 bits, and an integer in the smallest type that holds it (so all integer
  types are read here);
* it cuts table names at 128 bytes, and sorts a table's names;
* it takes a timestamp above 2**32 for milliseconds, and gives the timestamp property as a
  ``datetime``;
* it reads delivery tags as signed, so those above 2**63 - 1 are left to the unit tests;
* it takes a frame without payload for broken, and text that is not UTF-8 for an error, so these are
  left to the unit tests too;
* it refuses exchange names outside of ``[a-zA-Z0-9-_.:@#,/+ ]``, and delivery modes other than 1
  and 2.
"""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import msgspec
import pamqp.decode
import pamqp.encode
import pamqp.frame
from hypothesis import assume, given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from bridge.rabbitmq.frames.ids import ProtocolError
from bridge.rabbitmq.frames.properties import Decoder
from bridge.rabbitmq.frames.writing import Encoder, encode_ack, encode_nack, encode_reject
from bridge.transport import Properties, Publishing
from tests.unit.rabbitmq.wire import Event, Recorder, cut, frame

DECODER = Decoder()
ENCODER = Encoder()
"""One each for all examples: what is remembered of one must not show in the next."""
LANES = (1, 2, 3)
FOREIGN = (0, 4, 65_535)

tags = st.integers(0, 2**63 - 1)
octets = st.integers(0, 255)
long_text = st.text(st.characters(codec="utf-8"), max_size=300)


def text_of(max_bytes: int, min_size: int = 0) -> st.SearchStrategy[str]:
    """Text of at most that many bytes: mostly short, now and then full."""
    characters = st.characters(codec="utf-8")
    return st.one_of(
        st.text(characters, min_size=min_size, max_size=12),
        st.text(characters, min_size=max_bytes // 4, max_size=max_bytes // 4),
        st.text(st.characters(codec="ascii"), min_size=max_bytes, max_size=max_bytes),
    )


short_text = text_of(255)
exchanges = st.text(st.sampled_from("abcXYZ019-_.:@#,/+ "), max_size=127)
seconds = st.integers(0, 2**32 - 1)
moments = seconds.map(lambda at: datetime.fromtimestamp(at, UTC))
decimals = st.builds(
    lambda number, scale: Decimal(number).scaleb(-scale), st.integers(-(2**31), 2**31 - 1), octets
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    # the edges of every integer type
    st.sampled_from(
        [s * 2**n + d for n in (7, 8, 15, 16, 31, 32) for s in (1, -1) for d in (-1, 0, 1)]
    ),
    st.floats(width=32, allow_nan=False),
    long_text,
    st.binary(max_size=40).map(bytearray),
    decimals,
    moments,
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text_of(128), inner, max_size=4),
    max_leaves=12,
)
tables = st.dictionaries(text_of(128), values, max_size=6)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


properties_ = st.builds(
    Properties,
    content_type=optional(text_of(255, 1)),
    content_encoding=optional(text_of(255, 1)),
    headers=optional(tables),
    delivery_mode=optional(st.sampled_from([1, 2])),
    priority=optional(octets),
    correlation_id=optional(text_of(255, 1)),
    reply_to=optional(text_of(255, 1)),
    expiration=optional(text_of(255, 1)),
    message_id=optional(text_of(255, 1)),
    timestamp=optional(seconds),
    type=optional(text_of(255, 1)),
    user_id=optional(text_of(255, 1)),
    app_id=optional(text_of(255, 1)),
)


def exactly(value: Any) -> Any:
    """The value with its types, so that True is not 1 and bytes are not a bytearray."""
    if isinstance(value, dict):
        return {name: exactly(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [exactly(inner) for inner in value]
    return type(value), value


def to_pamqp(properties: Properties) -> commands.Basic.Properties:
    fields = msgspec.structs.asdict(properties)
    fields["message_type"] = fields.pop("type")
    if properties.timestamp is not None:
        fields["timestamp"] = datetime.fromtimestamp(properties.timestamp, UTC)
    return commands.Basic.Properties(**fields)


def from_pamqp(properties: commands.Basic.Properties) -> Properties:
    fields = {name: value for name, value in properties if name != "cluster_id"}
    fields["type"] = fields.pop("message_type")
    if properties.timestamp is not None:
        fields["timestamp"] = int(properties.timestamp.timestamp())
    return Properties(**cast(Any, fields))


def unmarshal(data: bytes) -> Iterator[tuple[int, Any]]:
    """Channel and frame, as pamqp reads them."""
    while data:
        size, channel, value = pamqp.frame.unmarshal(data)
        yield channel, value
        data = data[size:]


# ---- ours, read by pamqp ----


@given(tables)
def test_pamqp_reads_the_tables_we_write(table: dict[str, Any]) -> None:
    data = ENCODER.table(table)
    size, read = pamqp.decode.field_table(data)
    assert size == len(data)
    assert exactly(read) == exactly(table)


@given(properties_)
def test_pamqp_reads_the_properties_we_write(properties: Properties) -> None:
    flags, data = ENCODER.properties(properties)
    read = commands.Basic.Properties()
    read.unmarshal(flags, data)
    assert exactly(msgspec.structs.asdict(from_pamqp(read))) == exactly(
        msgspec.structs.asdict(properties)
    )


@given(
    st.integers(1, 65_535),
    st.builds(
        Publishing, short_text, st.binary(max_size=9_000), properties_, exchanges, st.booleans()
    ),
    st.sampled_from([4096, 8192, 131_072]),
)
def test_pamqp_reads_the_publishings_we_write(
    channel: int, publishing: Publishing, frame_max: int
) -> None:
    assume(len(ENCODER.properties(publishing.properties)[1]) <= frame_max - 22)
    frames = list(unmarshal(Encoder(frame_max).publish(channel, publishing)))
    assert {number for number, _ in frames} == {channel}
    publish, header, *bodies = (value for _, value in frames)
    assert isinstance(publish, commands.Basic.Publish)
    assert dict(publish) == {
        "ticket": 0,
        "exchange": publishing.exchange,
        "routing_key": publishing.routing_key,
        "mandatory": publishing.mandatory,
        "immediate": False,
    }
    assert isinstance(header, ContentHeader)
    assert vars(header) == {
        "class_id": 60,
        "weight": 0,
        "body_size": len(publishing.body),
        "properties": to_pamqp(publishing.properties),
    }
    assert from_pamqp(header.properties) == publishing.properties
    assert all(isinstance(body, ContentBody) and 0 < len(body) <= frame_max - 8 for body in bodies)
    assert b"".join(body.value for body in bodies) == publishing.body


@given(
    properties_,
    st.lists(
        st.tuples(optional(text_of(255, 1)), optional(text_of(255, 1))), min_size=1, max_size=4
    ),
)
def test_publishings_that_share_properties_differ_in_correlation_and_expiration_alone(
    shared: Properties, own: list[tuple[str | None, str | None]]
) -> None:
    for correlation_id, expiration in own:
        data = ENCODER.publish(
            1, Publishing("k", b"", shared, correlation_id=correlation_id, expiration=expiration)
        )
        _, (_, header) = unmarshal(data)
        expected = msgspec.structs.replace(
            shared,
            correlation_id=shared.correlation_id if correlation_id is None else correlation_id,
            expiration=shared.expiration if expiration is None else expiration,
        )
        assert from_pamqp(header.properties) == expected


@given(st.integers(0, 65_535), tags, st.booleans(), st.booleans())
def test_pamqp_reads_the_verdicts_we_write(
    channel: int, tag: int, multiple: bool, requeue: bool
) -> None:
    basic = commands.Basic
    data = (
        encode_ack(channel, tag, multiple=multiple)
        + encode_nack(channel, tag, multiple=multiple, requeue=requeue)
        + encode_reject(channel, tag, requeue=requeue)
    )
    read = [(number, type(value), dict(value)) for number, value in unmarshal(data)]
    assert read == [
        (channel, basic.Ack, {"delivery_tag": tag, "multiple": multiple}),
        (channel, basic.Nack, {"delivery_tag": tag, "multiple": multiple, "requeue": requeue}),
        (channel, basic.Reject, {"delivery_tag": tag, "requeue": requeue}),
    ]


# ---- pamqp's, read by us ----


@given(tables)
def test_we_read_the_tables_pamqp_writes(table: dict[str, Any]) -> None:
    assert exactly(DECODER.table(pamqp.encode.field_table(table))) == exactly(table)


class Script(msgspec.Struct):
    """What a channel says: the frames in order, and what its sink is told at the last of them."""

    frames: list[bytes]
    event: Event


def chunks(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Body frames as a broker may cut them: anyhow."""
    return [piece for piece in cut(data, sizes) if piece]


@st.composite
def contents(draw: st.DrawFn, channel: int) -> Script:
    """A delivery or a return with its content."""
    properties = draw(properties_)
    data = draw(st.binary(max_size=200))
    key = draw(short_text)
    exchange = draw(exchanges)
    if draw(st.booleans()):
        consumer, tag, redelivered = draw(short_text), draw(tags), draw(st.booleans())
        begin: Any = commands.Basic.Deliver(consumer, tag, redelivered, exchange, key)
        event: Event = (
            "deliver",
            channel,
            consumer.encode(),
            tag,
            redelivered,
            exchange,
            key,
            properties,
            data,
        )
    else:
        code, reason = draw(st.integers(0, 65_535)), draw(short_text)
        begin = commands.Basic.Return(code, reason, exchange, key)
        event = ("return", channel, code, reason, exchange, key, properties)
    header = ContentHeader(body_size=len(data), properties=to_pamqp(properties))
    bodies = map(ContentBody, chunks(data, draw(st.lists(st.integers(1, 80), max_size=4))))
    return Script(
        [pamqp.frame.marshal(value, channel) for value in (begin, header, *bodies)], event
    )


@st.composite
def confirms(draw: st.DrawFn, channel: int) -> Script:
    tag, multiple, ok = draw(tags), draw(st.booleans()), draw(st.booleans())
    value = (
        commands.Basic.Ack(tag, multiple)
        if ok
        else commands.Basic.Nack(tag, multiple, draw(st.booleans()))
    )
    return Script([pamqp.frame.marshal(value, channel)], ("confirm", channel, tag, multiple, ok))


def handed_on(value: Any, channel: int) -> Script:
    data = pamqp.frame.marshal(value, channel)
    return Script([data], ("frame", data))


foreign = st.one_of(
    st.just(handed_on(Heartbeat(), 0)),
    st.builds(handed_on, st.builds(ContentBody, st.binary(max_size=60)), st.sampled_from(FOREIGN)),
    st.builds(handed_on, st.builds(commands.Basic.Ack, tags), st.sampled_from(FOREIGN)),
    st.builds(handed_on, st.builds(commands.Basic.CancelOk, short_text), st.sampled_from(LANES)),
    st.builds(handed_on, st.just(commands.Basic.QosOk()), st.sampled_from(LANES + FOREIGN)),
)


class Conversation(msgspec.Struct):
    """The frames of several channels, interleaved, and what the sinks are told at each."""

    frames: list[bytes]
    events: list[Event | None]

    @property
    def data(self) -> bytes:
        return b"".join(self.frames)

    @property
    def told(self) -> list[Event]:
        return [event for event in self.events if event is not None]


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Each channel's frames stay in order; the channels are shuffled."""
    queues: list[list[tuple[bytes, Event | None]]] = []
    for channel in (*LANES, None):
        script = st.one_of(contents(channel), confirms(channel)) if channel else foreign
        queues.append([])
        for said in draw(st.lists(script, max_size=3)):
            queues[-1] += [(data, None) for data in said.frames[:-1]]
            queues[-1].append((said.frames[-1], said.event))
    talk = Conversation([], [])
    while queues := [queue for queue in queues if queue]:
        queue = queues[draw(st.integers(0, len(queues) - 1))]
        data, event = queue.pop(0)
        talk.frames.append(data)
        talk.events.append(event)
    return talk


piece_sizes = st.lists(st.integers(0, 120), max_size=60)


@given(conversations(), piece_sizes)
def test_we_read_what_pamqp_writes_on_any_channels_in_any_pieces(
    talk: Conversation, sizes: list[int]
) -> None:
    assert Recorder(*LANES).feed(*cut(talk.data, sizes)) == talk.told


# ---- chance ----


def outcome(data: bytes, sizes: Sequence[int]) -> tuple[list[Event], bool]:
    """What was told, and whether it ended in a ProtocolError. Any other error fails the test."""
    recorder = Recorder(*LANES, frame_max=65_536)  # more than the biggest header that is made here
    with contextlib.suppress(ProtocolError):
        recorder.feed(*cut(data, sizes))
        return recorder.events, False
    return recorder.events, True


noise = st.one_of(
    st.binary(max_size=400),
    # Whole frames with anything in them, and the starts that lead deepest into the codec.
    st.lists(
        st.builds(
            frame,
            st.sampled_from([1, 2, 3, 8, 9]),
            st.sampled_from([*LANES, 0, 4]),
            st.builds(
                bytes.__add__,
                st.sampled_from(
                    [
                        b"",
                        *(
                            bytes.fromhex(start)
                            for start in (
                                "003c003c",
                                "003c0050",
                                "003c0078",
                                "003c0032",
                                "003c001e",
                            )
                        ),
                        *(
                            bytes.fromhex(start)
                            for start in ("00140028", "000a0032", "000a003c", "000a003d")
                        ),
                        bytes.fromhex("003c0000" + "00" * 7 + "05" + "2000"),
                        bytes.fromhex("003c0000" + "00" * 8 + "fff8"),
                    ]
                ),
                st.binary(max_size=60),
            ),
        ),
        max_size=8,
    ).map(b"".join),
)


@given(conversations(), noise, piece_sizes)
def test_any_bytes_after_a_sound_stream_are_refused_or_met_with_silence(
    talk: Conversation, garbage: bytes, sizes: list[int]
) -> None:
    told, _ = outcome(talk.data + garbage, sizes)
    assert told[: len(talk.told)] == talk.told


@given(noise, piece_sizes)
def test_what_becomes_of_bytes_does_not_depend_on_how_they_were_split(
    garbage: bytes, sizes: list[int]
) -> None:
    whole = repr(outcome(garbage, ()))  # as text: not a number is not equal to itself
    assert repr(outcome(garbage, sizes)) == whole
    assert repr(outcome(garbage, [1] * len(garbage))) == whole


@given(st.data(), conversations(), piece_sizes)
def test_a_byte_turned_in_a_sound_stream_leaves_the_messages_before_it_as_they_were(
    data: st.DataObject, talk: Conversation, sizes: list[int]
) -> None:
    sound = talk.data
    assume(sound)
    turned = bytearray(sound)
    at = data.draw(st.integers(0, len(sound) - 1), label="at")
    turned[at] ^= data.draw(st.integers(1, 255), label="bits")
    told, failed = outcome(bytes(turned), sizes)
    assert repr((told, failed)) == repr(outcome(bytes(turned), ()))
    safe, end = 0, 0
    for piece, event in zip(talk.frames, talk.events, strict=True):
        end += len(piece)
        if end > at:
            break
        safe += event is not None
    assert told[:safe] == talk.told[:safe]
    # One frame more or less at most: whatever was turned, nothing is made up.
    assert len(told) <= len(talk.told) + 1


@given(st.data(), properties_)
def test_a_byte_turned_in_a_header_is_read_or_refused(
    data: st.DataObject, properties: Properties
) -> None:
    _, encoded = ENCODER.properties(properties)
    header = bytearray(b"\x00" * 12 + ENCODER.properties(properties)[0].to_bytes(2) + encoded)
    header[data.draw(st.integers(12, len(header) - 1))] ^= data.draw(st.integers(1, 255))
    stream = pamqp.frame.marshal(
        commands.Basic.Deliver("c", 1, redelivered=False, exchange="", routing_key=""), 1
    ) + frame(2, 1, bytes(header))
    recorder = Recorder(1)
    recorder.feed(stream, pamqp.frame.marshal(Heartbeat(), 0))
    assert [event[0] for event in recorder.events] == ["deliver", "frame"]
    read = recorder.events[0][7]
    assert read is None or isinstance(read, Properties)
