"""The stations that a gateway holds: whose turn it is, and who is lost."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from bridge import DataTransferRequest, DataTransferResponse
from bridge.gateway.stations import STATION_LIMIT, Station, Stations
from bridge.ocpp import CallError, OcppVersion, decode_call_error
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Offline, Reason, Reply
from tests.support import UNTIL_SETTLED, Settled, a_request

SHORT = 0.02
ACCEPTED = Reply(b'{"status":"Accepted"}')


class Held:
    """Stations, and what their requests were settled with."""

    def __init__(self, timeout: float = UNTIL_SETTLED) -> None:
        self.settled = Settled()
        self.stations = Stations(timeout)
        self.stations.settle = self.settled

    def connect(
        self, handler: Callable[[DataTransferRequest], Awaitable[Any]], station_id: str = "CP001"
    ) -> Station:
        station = Station(station_id, OcppVersion.V2_0_1, handler)
        self.stations.connect(station)
        return station

    def send(self, station_id: str = "CP001") -> Request:
        request = msgspec.structs.replace(a_request(), station_id=station_id)
        self.stations.dispatch(request)
        return request


@pytest.fixture
def held() -> Held:
    return Held()


async def accepts(request: DataTransferRequest) -> DataTransferResponse:
    return DataTransferResponse("Accepted")


async def hangs(request: DataTransferRequest) -> DataTransferResponse:
    await asyncio.Event().wait()
    raise AssertionError("the event was never set")


async def turns(count: int = 6) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_station_has_one_request_at_a_time_and_the_others_in_their_order(
    held: Held,
) -> None:
    running, most = 0, 0
    order: list[Any] = []

    async def counts(request: DataTransferRequest) -> DataTransferResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        order.append(len(order))
        return DataTransferResponse("Accepted")

    held.connect(counts)
    for _ in range(5):
        held.send()
    await held.settled.until(5)
    assert (most, order) == (1, [0, 1, 2, 3, 4])
    assert held.settled.outcomes == [ACCEPTED] * 5
    assert (held.stations.in_hand, len(held.stations.turns)) == (0, 0)


async def test_one_more_than_the_limit_is_answered_at_once(held: Held) -> None:
    held.connect(hangs)
    for _ in range(STATION_LIMIT + 1):
        held.send()
    (outcome,) = held.settled.outcomes
    assert isinstance(outcome, Failure)
    assert outcome.reason is Reason.OVERLOADED
    assert held.stations.in_hand == STATION_LIMIT
    held.stations.close()


async def test_who_had_the_request_and_who_waited_are_told_apart_when_the_station_is_lost(
    held: Held,
) -> None:
    station = held.connect(hangs)
    held.send()
    held.send()
    await turns()
    held.stations.disconnect(station)
    assert sorted(held.settled.outcomes, key=repr) == [Offline(sent=False), Offline(sent=True)]
    await turns()
    assert (held.stations.in_hand, len(held.stations.turns)) == (0, 0)


async def test_a_new_connection_of_a_station_ends_what_its_old_one_had(held: Held) -> None:
    held.connect(hangs)
    held.send()
    await turns()
    held.connect(accepts)
    assert held.settled.outcomes == [Offline(sent=True)]
    held.send()
    await held.settled.until(2)
    assert held.settled.outcomes[1] == ACCEPTED


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_handler_that_disconnects_its_own_station_goes_on_to_its_end(
    held: Held, at_once: bool
) -> None:
    finished = asyncio.Event()

    async def disconnects(request: DataTransferRequest) -> DataTransferResponse:
        if not at_once:
            await asyncio.sleep(0)
        held.stations.disconnect(station)
        await asyncio.sleep(0)
        finished.set()
        return DataTransferResponse("Accepted")

    station = held.connect(disconnects)
    held.send()
    async with asyncio.timeout(UNTIL_SETTLED):
        await finished.wait()
    await turns()
    assert held.settled.outcomes == [Offline(sent=True)]
    assert (held.stations.in_hand, len(held.stations.turns)) == (0, 0)


async def test_without_an_answer_in_time_neither_the_request_nor_its_turn_is_left() -> None:
    held = Held(timeout=SHORT)
    held.connect(hangs)
    held.send()
    held.send()
    await held.settled.until(2)
    for outcome in held.settled.outcomes:
        assert isinstance(outcome, Failure)
    await turns()
    assert (held.stations.in_hand, len(held.stations.turns)) == (0, 0)


async def test_a_handler_that_swallows_its_cancellation_is_settled_once_and_holds_up_nobody(
    held: Held,
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def swallows(request: DataTransferRequest) -> DataTransferResponse:
        entered.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await go_on.wait()
        return DataTransferResponse("Accepted")

    first = held.connect(swallows)
    held.send()
    held.send()  # waits for its turn
    async with asyncio.timeout(UNTIL_SETTLED):
        await entered.wait()
    held.stations.disconnect(first)
    await turns()
    assert held.settled.outcomes == [Offline(sent=True), Offline(sent=False)]
    go_on.set()
    await turns()
    assert len(held.settled.outcomes) == 2
    assert (held.stations.in_hand, len(held.stations.turns)) == (0, 0)


async def test_a_station_that_is_not_there_is_offline(held: Held) -> None:
    held.connect(accepts)
    held.send("CP002")
    assert held.settled.outcomes == [Offline(sent=False)]


@pytest.mark.parametrize("code", ["E-17", "FormatViolation"])
async def test_a_callerror_of_a_station_keeps_its_own_code(held: Held, code: str) -> None:
    async def refuses(request: DataTransferRequest) -> DataTransferResponse:
        raise CallError(code, "why", {"a": 1})

    held.connect(refuses)
    held.send()
    outcome = await held.settled.first()
    assert isinstance(outcome, Reply)
    error = decode_call_error(outcome.body)
    assert (error.code, error.description, error.details) == (code, "why", {"a": 1})
