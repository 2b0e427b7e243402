"""One request of a station at a time, in order."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bridge import Call, Router
from bridge.dialects.native import Native
from bridge.request.chain import chain
from bridge.routing.router import Routes
from bridge.telemetry.counts import WorkerCounts
from bridge.transport import Properties, Verdict
from bridge.worker.dispatch import Dispatcher
from bridge.worker.in_order import InOrderIntake
from bridge.worker.room import LARGE, Room
from tests.support import UNTIL_SETTLED, Kept, payload


def delivery(station: str, number: int, size: int = 0) -> Kept:
    properties = Properties(
        headers={"ocpp-station-id": station}, correlation_id=str(number), reply_to="amq.gen-x"
    )
    data = {"number": number, "filling": "x" * size}
    return Kept("datatransfer", "v", False, properties, payload("v", None, data))


class Bench:
    """An intake whose handlers end when they are told to."""

    def __init__(self, concurrency: int = 10) -> None:
        self.begun: list[tuple[str, int]] = []
        self.gates: dict[tuple[str, int], asyncio.Event] = {}
        self.at_once = False
        self.room = Room(LARGE)
        self.intake = InOrderIntake(
            "q",
            dialect=Native(),
            counts=WorkerCounts(),
            prefetch=1_000,
            concurrency=concurrency,
            lacks=lambda _: False,
            worker="w",
            room=self.room,
        )
        router = Router("v")

        @router.default
        async def handle(call: Call, data: dict[str, Any]) -> None:
            which = call.station_id, data["number"]
            self.begun.append(which)
            if not self.at_once:
                await self.gates.setdefault(which, asyncio.Event()).wait()

        self.dispatcher = Dispatcher(Routes([router]))
        chain(self.intake, self.dispatcher)

    def take(self, *deliveries: Kept) -> None:
        for each in deliveries:
            self.intake.on_delivery(each)

    async def until_begun(self, *which: tuple[str, int]) -> None:
        await until(lambda: self.begun == list(which))

    async def end(self, one: Kept, station: str, number: int) -> None:
        self.gates[station, number].set()
        async with asyncio.timeout(UNTIL_SETTLED):
            await one.settled.wait()

    async def close(self) -> None:
        for gate in self.gates.values():
            gate.set()
        await until(lambda: self.intake.running == 0)
        self.dispatcher.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(UNTIL_SETTLED):
        while not condition():
            await asyncio.sleep(0)


async def test_a_station_waits_for_its_own_requests_and_for_no_others() -> None:
    bench = Bench()
    first, second, other = delivery("A", 1), delivery("A", 2), delivery("B", 3)
    bench.take(first, second, other)
    await bench.until_begun(("A", 1), ("B", 3))
    assert (bench.intake.running, bench.intake.waiting, bench.intake.in_hand) == (2, 1, 3)
    await bench.end(first, "A", 1)
    await bench.until_begun(("A", 1), ("B", 3), ("A", 2))
    assert first.verdict is Verdict.ACK
    await bench.close()
    assert bench.intake.in_hand == 0


async def test_many_requests_of_one_station_need_no_deep_stack() -> None:
    bench = Bench()
    bench.at_once = True
    deliveries = [delivery("A", number) for number in range(3_000)]
    bench.take(*deliveries)
    await until(lambda: all(each.verdict is Verdict.ACK for each in deliveries))
    assert bench.begun == [("A", number) for number in range(3_000)]
    await bench.close()


async def test_no_more_run_than_may_and_the_next_stations_come_in_their_order() -> None:
    bench = Bench(concurrency=1)
    deliveries = [delivery("A", 1), delivery("B", 2), delivery("A", 3), delivery("C", 4)]
    bench.take(*deliveries)
    await bench.until_begun(("A", 1))
    await bench.end(deliveries[0], "A", 1)
    await bench.until_begun(("A", 1), ("B", 2))
    await bench.end(deliveries[1], "B", 2)
    await bench.until_begun(("A", 1), ("B", 2), ("C", 4))
    await bench.end(deliveries[3], "C", 4)
    await bench.until_begun(("A", 1), ("B", 2), ("C", 4), ("A", 3))
    await bench.close()


async def test_a_large_payload_keeps_its_place_though_there_is_no_room() -> None:
    bench = Bench()
    large = [delivery("A", 1, 2 * LARGE), delivery("B", 2, 2 * LARGE)]
    bench.take(*large)
    await bench.until_begun(("A", 1), ("B", 2))
    await bench.close()
    assert bench.room.used == 0


async def test_when_it_stops_it_leaves_what_has_not_begun() -> None:
    bench = Bench(concurrency=1)
    running, behind, next_in_turn, late = (
        delivery("A", 1),
        delivery("A", 2),
        delivery("B", 3),
        delivery("A", 4),
    )
    bench.take(running, behind, next_in_turn)
    await bench.until_begun(("A", 1))
    bench.intake.give_back()
    bench.take(late)
    assert [each.verdict for each in (behind, next_in_turn, late)] == [Verdict.LEAVE] * 3
    assert bench.intake.in_hand == 1
    await bench.end(running, "A", 1)
    assert running.verdict is Verdict.ACK
    await bench.close()
    assert bench.begun == [("A", 1)]


async def test_what_runs_when_the_connection_is_lost_is_waited_for() -> None:
    bench = Bench()
    lost, behind, again = delivery("A", 1), delivery("A", 2), delivery("A", 1)
    bench.take(lost, behind)
    await bench.until_begun(("A", 1))
    bench.intake.void()
    assert bench.intake.in_hand == 1
    bench.take(again)
    await asyncio.sleep(0)
    assert bench.begun == [("A", 1)]
    bench.gates["A", 1].set()
    await bench.until_begun(("A", 1), ("A", 1))
    assert behind.verdict is None
    await bench.close()


@pytest.mark.parametrize("in_turn", [True, False])
async def test_what_waits_when_the_connection_is_lost_is_forgotten(in_turn: bool) -> None:
    bench = Bench(concurrency=1)
    bench.take(delivery("A", 1), delivery("B" if in_turn else "A", 2))
    await bench.until_begun(("A", 1))
    bench.intake.void()
    bench.gates["A", 1].set()
    await until(lambda: bench.intake.running == 0)
    assert bench.begun == [("A", 1)]
    bench.at_once = True
    bench.take(delivery("A", 3), delivery("B", 4))
    await bench.until_begun(("A", 1), ("A", 3), ("B", 4))
    await bench.close()
