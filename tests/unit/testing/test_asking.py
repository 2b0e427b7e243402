"""`ask`: a request through the real dispatch, without a broker."""

import asyncio
from typing import Any

import pytest
from msgspec import UNSET

from bridge import Call, CallError, DataTransferResponse, Rejected, Retry, Router, StatusInfo
from bridge.ocpp import ErrorCode, OcppVersion
from bridge.testing import ask


@pytest.fixture
def router() -> Router:
    router = Router("com.acme")

    @router.on("Echo")
    async def echo(call: Call, data: Any) -> Any:
        return {"station": call.station_id, "version": call.ocpp_version, "data": data}

    @router.on("Reject")
    def reject(call: Call) -> None:
        raise Rejected("No", "because")

    @router.on("Refuse")
    async def refuse(call: Call) -> None:
        raise CallError(ErrorCode.SECURITY_ERROR, "no")

    @router.on("Break")
    async def break_(call: Call) -> None:
        raise ValueError("the cause")

    @router.on("Later")
    async def later(call: Call) -> None:
        raise Retry(5, "db down")

    return router


async def test_ask_returns_the_answer_as_the_station_would_see_it(router: Router) -> None:
    answer = await ask(router, "COM.ACME", "echo", {"a": 1}, version="ocpp2.1", station_id="CP7")
    assert answer == DataTransferResponse(
        "Accepted", {"station": "CP7", "version": "ocpp2.1", "data": {"a": 1}}
    )
    in_1_6 = await ask([router], "com.acme", "Echo", [1], version=OcppVersion.V1_6)
    assert in_1_6.data == '{"station":"CP001","version":"ocpp1.6","data":"[1]"}'


async def test_ask_knows_every_answer(router: Router) -> None:
    assert (await ask(router, "x")).status == "UnknownVendorId"
    assert (await ask(router, "com.acme")) == DataTransferResponse("UnknownMessageId", UNSET)
    assert (await ask(router, "com.acme", "Reject")).status_info == StatusInfo("No", "because")
    with pytest.raises(CallError, match="SecurityError: no"):
        await ask(router, "com.acme", "Refuse")
    with pytest.raises(Retry) as retry:
        await ask(router, "com.acme", "Later")
    assert retry.value.after == 5


async def test_ask_tells_in_a_note_what_a_station_is_not_told(router: Router) -> None:
    with pytest.raises(
        CallError, match="InternalError: The request could not be processed"
    ) as caught:
        await ask(router, "com.acme", "Break")
    assert caught.value.__notes__ == ["ValueError: the cause"]


async def test_what_a_handler_raised_is_the_cause_with_its_traceback(router: Router) -> None:
    with pytest.raises(CallError) as failed:
        await ask(router, "com.acme", "Break")
    cause = failed.value.__cause__
    assert isinstance(cause, ValueError)
    assert cause.__traceback__ is not None
    assert cause.__traceback__.tb_frame.f_code.co_name == "break_"
    with pytest.raises(Retry) as later:
        await ask(router, "com.acme", "Later")
    assert isinstance(later.value.__cause__, Retry)
    assert later.value.__cause__.reason == "db down"


async def test_asking_can_be_given_up(router: Router) -> None:
    cancelled = asyncio.Event()

    @router.on("Hang")
    async def hang(call: Call) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(router, "com.acme", "Hang"), 0.01)
    await asyncio.wait_for(cancelled.wait(), 1)
