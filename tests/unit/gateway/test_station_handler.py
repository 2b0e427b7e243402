"""What a station is sent: its own version, and nothing altered."""

import asyncio
import inspect
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.gateway.station_handler import (
    CallHandler,
    PayloadHandler,
    answer_of,
    function_of,
    payload_for,
)
from bridge.ocpp import (
    CallError,
    DataTransferRequest,
    DataTransferResponse,
    InvalidResponse,
    OcppVersion,
)
from bridge.request.outcome import Reply

NEWER = [OcppVersion.V2_0, OcppVersion.V2_0_1, OcppVersion.V2_1]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("version", NEWER)
@given(vendor_id=st.text(max_size=255), data=JSON)
def test_a_payload_for_2_x_is_not_touched(version: OcppVersion, vendor_id: str, data: Any) -> None:
    try:
        body = b' {"messageId":"m", "data":%b ,"vendorId":%b}\n' % (
            msgspec.json.encode(data),
            msgspec.json.encode(vendor_id),
        )
    except UnicodeEncodeError:  # a lone surrogate has no form in UTF-8
        return
    assert payload_for(version, body) is body


@given(data=JSON)
def test_data_for_1_6_is_its_own_text(data: Any) -> None:
    try:
        encoded = msgspec.json.encode(data)
    except UnicodeEncodeError:
        return
    body = b'{"vendorId":"v","messageId":"m","data": %b ,"statusInfo":1}' % encoded
    decoded = msgspec.json.decode(payload_for(OcppVersion.V1_6, body))
    if data is None:
        assert decoded == {"vendorId": "v", "messageId": "m"}
    else:
        assert decoded == {
            "vendorId": "v",
            "messageId": "m",
            "data": data if isinstance(data, str) else encoded.decode(),
        }


@pytest.mark.parametrize(
    "body",
    [
        b'{"vendorId":"v"}',
        b' {"messageId":"", "vendorId":"v" }\n',
        b'{"vendorId":"\xc3\xa9","messageId":"m","data" : "\\u00e9 \xc3\xa9"}',
        b'{"data":"","vendorId":"v"}',
    ],
)
def test_a_payload_that_fits_1_6_is_not_touched(body: bytes) -> None:
    assert payload_for(OcppVersion.V1_6, body) is body


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"vendorId":"v","messageId":null}', {"vendorId": "v"}),
        (b'{"vendorId":"v","customData":{"vendorId":"w"}}', {"vendorId": "v"}),
        (b'{"vendorId":"v","customData":7}', {"vendorId": "v"}),
        (b'{"vendorId":"v","more":1,"data":"x"}', {"vendorId": "v", "data": "x"}),
        (b'{"vendorId":"v","data":1.10}', {"vendorId": "v", "data": "1.10"}),
        (b'{"vendorId":"v","data":null}', {"vendorId": "v"}),
    ],
)
def test_what_1_6_does_not_know_is_left_out(body: bytes, sent: dict[str, str]) -> None:
    assert msgspec.json.decode(payload_for(OcppVersion.V1_6, body)) == sent


def test_text_for_1_6_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(CallError, match="data"):
        payload_for(OcppVersion.V1_6, b'{"vendorId":"v","data":"\xff"}')


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"vendorId":null}',
        b'{"vendorId":"v","messageId":7}',
        b'{"vendorId":"%b"}' % (b"v" * 256),
    ],
)
def test_what_is_no_request_is_refused_in_every_version(version: OcppVersion, body: bytes) -> None:
    with pytest.raises(CallError):
        payload_for(version, body)


class Both:
    """Takes values and bytes; bytes come first, because they are nearer to the wire."""

    async def on_payload(self, payload: bytes, timeout: float) -> Reply:
        return Reply(payload)

    async def on_data_transfer(self, request: DataTransferRequest) -> DataTransferResponse:
        raise NotImplementedError


async def test_a_handler_of_bytes_is_given_them_as_they_are() -> None:
    assert isinstance(Both(), PayloadHandler)
    assert await answer_of(Both(), OcppVersion.V1_6)(b"anything", 1.0) == Reply(b"anything")


async def test_a_plain_function_runs_in_a_thread_and_an_async_one_does_not() -> None:
    tasks: list[object] = []

    def plain(request: DataTransferRequest) -> DataTransferResponse:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return DataTransferResponse("Accepted", request.data)

    async def function(request: DataTransferRequest) -> DataTransferResponse:
        tasks.append(asyncio.current_task())
        return DataTransferResponse("Accepted", request.data)

    for handler in (plain, function):
        assert inspect.iscoroutinefunction(handler) is (handler is function)
        reply = await answer_of(handler, OcppVersion.V2_1)(b'{"vendorId":"v","data":[1]}', 1.0)  # type: ignore[arg-type]
        assert reply == Reply(b'{"status":"Accepted","data":[1]}')
    assert tasks == [asyncio.current_task()]


async def test_an_answer_that_ocpp_does_not_know_is_the_handlers_fault() -> None:
    async def wrong(request: DataTransferRequest) -> DataTransferResponse:
        return DataTransferResponse("Accepted!")

    with pytest.raises(InvalidResponse):
        await answer_of(wrong, OcppVersion.V2_1)(b'{"vendorId":"v"}', 1.0)


def test_a_handler_with_callbacks_and_without_is_told_by_its_methods() -> None:
    class Calls:
        def start_call(self, payload: bytes, on_answer: Any) -> None: ...

        def give_up_call(self) -> None: ...

    assert isinstance(Calls(), CallHandler)
    assert not isinstance(Both(), CallHandler)
    handler = Calls()
    assert function_of(handler) == handler.start_call


def test_what_is_no_handler_is_refused() -> None:
    with pytest.raises(TypeError, match="int is no station handler"):
        answer_of(7, OcppVersion.V2_1)  # type: ignore[arg-type]
