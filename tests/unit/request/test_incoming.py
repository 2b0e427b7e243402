"""What a handler sees of a request beside its data."""

from typing import Any

import msgspec
import pytest

from bridge.ocpp import OcppVersion, decode_request
from bridge.request.incoming import Call
from bridge.transport import Delivery, Properties
from tests.support import a_request, payload


def a_call(properties: Properties) -> Call:
    body = payload()
    request = a_request(body, source=Delivery("datatransfer", "v", False, properties, body))
    return Call(request, decode_request(body, request.version))


def test_a_call_shows_the_headers_of_its_message_and_nobody_can_change_them() -> None:
    headers: dict[str, Any] = {"traceparent": "00-4b-00-01", "x": {"y": [1]}}
    call = a_call(Properties(headers=headers))
    assert call.headers == headers
    with pytest.raises(TypeError):
        call.headers["x"] = 1  # type: ignore[index]


def test_a_message_without_headers_has_none_to_show() -> None:
    assert a_call(Properties()).headers == {}


def test_a_call_shows_who_sent_it_as_far_as_the_broker_knows() -> None:
    assert a_call(Properties(user_id="gateway-1")).user_id == "gateway-1"
    assert a_call(Properties(headers={"user_id": "x"})).user_id is None


# ---- what names it ----

MARKS = [
    ("version", OcppVersion.V1_6),
    ("station_id", "CP002"),
    ("ocpp_message_id", "2"),
    ("body", payload(data=1)),
    ("origin", "another connection"),
]


def key(properties: Properties | None = None, **fields: Any) -> str | None:
    source = Delivery("datatransfer", "v", False, properties or Properties(), b"")
    fields = {"origin": "a connection", "body": payload(), "source": source} | fields
    request = msgspec.structs.replace(a_request(), **fields)
    return Call(request, decode_request(payload(), request.version)).idempotency_key


def test_the_key_of_a_request_is_the_same_in_every_release() -> None:
    """Workers of several share a database."""
    known = "848a18bb4e6f59eebebacb7092c58e628f689eac2e410556cd79f2893b122a62"
    assert key(body=b'{"vendorId":"v"}') == known


@pytest.mark.parametrize(("field", "value"), MARKS, ids=[field for field, _ in MARKS])
def test_requests_that_differ_have_different_keys(field: str, value: Any) -> None:
    assert key(**{field: value}) != key()


def test_where_its_parts_end_is_part_of_a_key() -> None:
    assert key(station_id="a", ocpp_message_id="bc") != key(station_id="ab", ocpp_message_id="c")
    assert key(station_id="a','b") != key(station_id="a", ocpp_message_id="b','1")


def test_a_later_try_which_has_lost_its_sender_has_the_key_of_the_first() -> None:
    sender = "gateway-1"
    for origin in ("a connection", ("corr-1", 1_700_000_000_000), None):
        first = key(Properties(user_id=sender), origin=(sender, origin))
        assert first == key(Properties(), origin=origin)


def test_a_request_without_a_message_id_has_no_key() -> None:
    assert key(ocpp_message_id=None) is None
    assert key(ocpp_message_id="") is None


def test_half_of_a_surrogate_pair_has_a_key_as_well() -> None:
    assert key(station_id="CP\udcff") != key(station_id="CP\udcfe")


@pytest.mark.parametrize(
    ("fields", "may_be"),
    [
        ({}, False),
        ({"told_apart": True}, True),
        ({"redelivered": True}, True),
        ({"first_try": 1_700_000_000.0}, True),
    ],
)
def test_a_request_whose_name_comes_again_is_a_repetition_only_if_it_was_sent_again(
    fields: dict[str, Any], may_be: bool
) -> None:
    body = payload()
    fields = {"told_apart": False} | fields
    call = Call(a_request(body, **fields), decode_request(body, OcppVersion.V2_0_1))
    assert call.may_be_repetition is may_be
    assert call.key_comes_again is not fields["told_apart"]
