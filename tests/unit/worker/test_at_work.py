"""The handler that is at work is found in its stack, with its request."""

import asyncio
import functools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from bridge import Call, DataTransferRequest, DataTransferResponse, Router
from bridge.routing.router import Routes
from bridge.telemetry.blocked import Holder
from bridge.worker.at_work import AtWork
from tests.support import a_request, dispatched, payload

ROUTER = Router("v")
seen: list[Holder | None] = []
first_frames: list[str] = []


def stack() -> list[FrameType]:
    """Of this thread, as another one would see it."""
    frame: FrameType | None = sys._current_frames()[threading.get_ident()]
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def look() -> None:
    frames = stack()
    holder = AT_WORK(frames)
    seen.append(holder)
    if holder is not None:
        first_frames.append(frames[holder.begins_at].f_code.co_name)


@ROUTER.on("plain")
async def looks(call: Call) -> None:
    look()


@ROUTER.on("deep")
async def looks_deeper(call: Call) -> None:
    async def deeper() -> None:
        await asyncio.sleep(0)
        look()

    await deeper()


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        return await function(*arguments)

    return wrapper


@ROUTER.on("decorated")
@decorated
async def is_decorated(call: Call) -> None:
    look()


@ROUTER.on("forgetful")
async def forgets_its_call(call: Call) -> None:
    del call
    look()


class Mounted:
    async def on_data_transfer(
        self, charging_station_id: str, request: DataTransferRequest
    ) -> DataTransferResponse:
        look()
        return DataTransferResponse("Accepted")


ROUTER.mount(Mounted())
AT_WORK = AtWork(Routes([ROUTER]))


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("plain", "looks"),
        ("deep", "looks_deeper"),
        ("decorated", "is_decorated"),
        ("other", "Mounted.on_data_transfer"),
    ],
)
async def test_a_handler_is_found_with_its_request(message: str, name: str) -> None:
    seen.clear()
    await handled(message)
    (holder,) = seen
    assert holder is not None
    assert holder.name == f"{__name__}.{name}"
    assert holder.labels == ("v", "(default)" if message == "other" else message)
    assert first_frames[-1] == name.rsplit(".", maxsplit=1)[-1]
    if message != "other":  # a mounted one is given no call
        assert holder.details == {"vendor": "V", "message": message, "station": "CP001"}


async def test_a_handler_that_has_dropped_its_call_is_known_by_its_name() -> None:
    seen.clear()
    await handled("forgetful")
    assert seen[0] is not None
    assert seen[0].name == f"{__name__}.forgets_its_call"


def test_where_no_handler_is_nobody_is_found() -> None:
    assert AT_WORK(stack()) is None


async def handled(message: str) -> None:
    """Have a request handled."""
    await dispatched(ROUTER, a_request(payload("V", message)))
