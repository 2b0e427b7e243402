"""What a handler sees of a request beside its data."""

from typing import Any

import pytest

from bridge.ocpp import decode_request
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
