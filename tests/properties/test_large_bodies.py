"""What is quicker for large bodies and free-form answers says the same as what it replaces."""

import enum
import json
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from bridge import Call, Router
from bridge.ocpp import LARGE, OcppVersion, decode_request, encode_accepted, peel
from tests.support import a_request, dispatched

V201 = OcppVersion.V2_0_1

# ---- the envelope of a large payload ----

names = st.sampled_from(["", "v", "com.acme", "é", 'a"b', "a\\b", "a\nb", "x" * 60, "ß" * 200])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | names,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "vendorId", "messageId", "a"]), inner)
    ),
    max_leaves=6,
)
fields = st.lists(
    st.tuples(st.sampled_from(["vendorId", "messageId"]), names)
    | st.tuples(st.just("data"), values)
    | st.tuples(st.sampled_from(["customData", "other", "vendorId", "messageId"]), values),
    max_size=5,
)
spaces = st.sampled_from(["", " ", "\n\t ", "\v"])


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """A DataTransferRequest, mostly; its members in any order, some twice, and perhaps broken."""
    members: list[str] = []
    for name, value in draw(fields):
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        members.append(f'{draw(spaces)}"{name}"{draw(spaces)}:{draw(spaces)}{text}{draw(spaces)}')
    body = f"{draw(spaces)}{{{','.join(members)}}}{draw(spaces)}".encode()
    at = draw(st.integers(0, len(body)))
    broken = draw(st.sampled_from([b"", b"", b"", b",", b"}", b'"', b"\\", b"\xff", b"\x00"]))
    return body[:at] + broken + body[at:]


@given(payloads())
def test_an_envelope_that_is_peeled_is_the_one_that_is_decoded(payload: bytes) -> None:
    peeled = peel(payload)
    if peeled is None or peeled.data is msgspec.UNSET:
        return
    try:
        msgspec.json.decode(peeled.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert peeled == decode_request(payload, V201)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"vendorId":"v","messageId":"m","data":{"a":[1]}}',
        b'{"messageId":"m","vendorId":"v","data":"}"}',
        b'{"messageId":"m","data":{"vendorId":"w"},"vendorId":"v"}',
        b'{"data":[1],"messageId":"m","vendorId":"v"}',
        b' { "vendorId" : "v" , "data" : 1.5} \n',
        b'{"vendorId":"\xc3\xa9","data":null,"messageId":""}',
        b'{"vendorId":"a","vendorId":"v","data":{}}',
    ],
)
def test_an_envelope_in_any_usual_order_is_peeled(payload: bytes) -> None:
    assert peel(payload) == decode_request(payload, V201)


# ---- what becomes of a large request ----


class Reading(Struct, forbid_unknown_fields=True):
    value: int
    note: str = ""


class Angry(Struct):
    value: Any

    def __post_init__(self) -> None:
        raise KeyError("secret")


def router_for(kind: Any) -> Router:
    router = Router("v")

    async def handler(call: Call, data: Any) -> Any:
        request = call.request
        data = bytes(data) if isinstance(data, Raw) else data
        return [call.vendor_id, call.message_id, str(data)[:50], str(request.data)[:50]]

    handler.__annotations__["data"] = kind
    router.on("m")(handler)
    return router


NOTE = b"x" * LARGE
DATA = (
    b'{"value":1,"note":"%b"}' % NOTE,
    b'{"value":"1","note":"%b"}' % NOTE,
    b'{"value":1,"note":"%b"},"customData":{"vendorId":"v"}' % NOTE,
    b'{"value":1,"note":"%b"},"customData":{"vendorId":1}' % NOTE,
    b'{"value":1,"note":"%b"},"messageId":"m","messageId":"other"' % NOTE,
    b'{"value":1,"note":"%b"' % NOTE,
    b'{"value":1,"note":"%b"}}' % NOTE,
    b'{"value":1,"note":"%b"},' % NOTE,
    b'{"value":1,"note":"%b\xff"}' % NOTE,
    b'{"value":1,"other":"%b\xff"}' % NOTE,
    b'{"value":%b1%b}' % (b"[" * LARGE, b"]" * LARGE),
    b'"{\\"value\\":1,\\"note\\":\\"%b\\"}"' % NOTE,
    b'"%b"' % NOTE,
    b'"%b\xff"' % NOTE,
    b"null%b" % (b" " * LARGE),
    b"%b" % (b" " * LARGE),
)


@pytest.mark.parametrize("kind", [Reading, Reading | None, Angry, dict, Any, str, bytes, Raw])
@pytest.mark.parametrize("data", DATA, ids=range(len(DATA)))
async def test_a_large_request_has_the_outcome_that_it_has_where_it_is_not_peeled(
    data: bytes, kind: Any
) -> None:
    rest = b'"vendorId":"v","messageId":"m","data":%b}' % data
    usual = b'{"x":0,' + rest  # an unknown field, so that it is not peeled
    peeled = b"{      " + rest  # what is wrong is as far from the beginning
    assert peel(usual) is None
    outcomes = [
        await dispatched(router_for(kind), a_request(body, version=V201))
        for body in (usual, peeled)
    ]
    assert _told(outcomes[0]) == _told(outcomes[1])


def _told(outcome: Any) -> Any:
    """All of an outcome but the exception itself."""
    return msgspec.structs.replace(outcome, raised=None) if hasattr(outcome, "raised") else outcome


# ---- free-form answers ----


class Color(enum.Enum):
    RED = "red"
    TWO = 2
    HALF = 0.5
    PAIR = (1, 2)
    NOTHING = None


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    ACME = "acme"


class Text(str):
    """A subclass of what msgspec writes."""

    __slots__ = ()


class Mapping(dict[str, Any]):
    """Another."""


class Point(NamedTuple):
    x: int
    y: Any


class Tariff(Struct):
    price: Any


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
    | st.floats()
    | st.sampled_from([1e15, 1e16, 1e22, 1e-5, 5e-324, -0.0])
    | st.text(st.characters())  # lone surrogates included
    | st.sampled_from(["e+", "+", '\x7f\u2028/"\\\b\f\x00'])
    | st.binary(max_size=5)
    | st.uuids()
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
    | st.decimals()
    | st.sampled_from([*Color, *Level, *Name])
    | st.builds(Text, st.text(max_size=3))
    | st.just(Raw(b"[1]"))
    | st.just(object())
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.dictionaries(
            st.integers() | st.sampled_from([*Name, *Level, *Color]) | st.uuids(), inner, max_size=2
        )
        | st.builds(Mapping, st.dictionaries(st.text(max_size=3), inner, max_size=2))
        | st.builds(Point, st.integers(), inner)
        | st.builds(Tariff, inner)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=10,
)


def _result(write: Callable[[], bytes]) -> bytes | str:
    """What is written, or what is said of why it is not."""
    try:
        return write()
    except Exception as error:  # noqa: BLE001 - whichever it is, it must be the same
        cause = error.__cause__
        return f"{type(cause or error).__name__}: {cause or error}"


def _by_msgspec(data: Any) -> bytes:
    if data is None:
        return b'{"status":"Accepted"}'
    return b'{"status":"Accepted","data":%b}' % msgspec.json.encode(data)


@given(st.lists(anything, max_size=3) | anything.filter(lambda data: not isinstance(data, bytes)))
def test_an_answer_is_what_msgspec_makes_of_it(data: Any) -> None:
    if isinstance(data, Raw):
        return
    assert _result(lambda: encode_accepted(data, V201)) == _result(lambda: _by_msgspec(data))


@pytest.mark.parametrize("depth", [10, 250, 253, 254, 255, 256, 400])
def test_a_deep_answer_is_what_msgspec_makes_of_it(depth: int) -> None:
    data: Any = 1
    for _ in range(depth):
        data = [data]
    assert encode_accepted(data, V201) == _by_msgspec(data)


def test_an_answer_that_contains_itself_is_refused_as_by_msgspec() -> None:
    data: list[Any] = []
    data.append(data)
    assert _result(lambda: encode_accepted(data, V201)) == _result(lambda: _by_msgspec(data))


def test_a_uuid_is_written_as_text() -> None:
    one = uuid.UUID(int=1)
    assert (
        encode_accepted([one], V201) == b'{"status":"Accepted","data":["%b"]}' % str(one).encode()
    )
