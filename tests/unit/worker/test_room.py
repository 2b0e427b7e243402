"""The bytes that a worker has in hand."""

import asyncio
from typing import Any

from bridge import Call, Router
from bridge.dialects.native import Native
from bridge.request.chain import chain
from bridge.routing.router import Routes
from bridge.telemetry.counts import WorkerCounts
from bridge.transport import Delivery, Properties, Verdict
from bridge.worker.dispatch import Dispatcher
from bridge.worker.intake import Intake
from bridge.worker.room import LARGE, Room
from tests.support import UNTIL_SETTLED, Kept, payload

SIZE = 100_000


def large(size: int = SIZE) -> Kept:
    body = payload(data="")
    body = payload(data="x" * (size - len(body)))
    assert len(body) == size
    headers = {"ocpp-station-id": "CP001"}
    return Kept("datatransfer", "v", False, Properties(headers=headers), body)


class Bench:
    def __init__(self, room: Room, concurrency: int = 100) -> None:
        self.go_on = asyncio.Event()
        self.runs = 0
        router = Router("v")

        @router.default
        async def handler(call: Call, data: Any) -> None:
            self.runs += 1
            await self.go_on.wait()

        self.intake = Intake(
            "datatransfer.v",
            dialect=Native(),
            counts=WorkerCounts(),
            prefetch=100,
            concurrency=concurrency,
            lacks=lambda _: False,
            worker="dtbridge@host:1",
            room=room,
        )
        chain(self.intake, Dispatcher(Routes([router])))

    def put(self, *deliveries: Delivery) -> None:
        for delivery in deliveries:
            self.intake.on_delivery(delivery)

    async def settled(self, *deliveries: Kept) -> None:
        async with asyncio.timeout(UNTIL_SETTLED):
            for delivery in deliveries:
                await delivery.settled.wait()


async def test_what_there_is_no_room_for_waits_without_its_body() -> None:
    room = Room(3 * SIZE)
    bench = Bench(room)
    deliveries = [large() for _ in range(60)]
    bench.put(*deliveries)
    await asyncio.sleep(0)
    assert (bench.runs, room.used, room.waiting) == (3, 3 * SIZE, 57)
    assert sum(len(delivery.body) for delivery in deliveries) == 3 * SIZE
    assert all(delivery.verdict is None for delivery in deliveries)


async def test_as_room_comes_free_the_oldest_go_back_to_their_queue_one_for_one() -> None:
    room = Room(2 * SIZE)
    bench = Bench(room)
    deliveries = [large() for _ in range(5)]
    bench.put(*deliveries)
    bench.go_on.set()
    await bench.settled(*deliveries[:4])
    assert [delivery.verdict for delivery in deliveries] == [
        Verdict.ACK,
        Verdict.ACK,
        Verdict.REQUEUE,
        Verdict.REQUEUE,
        None,
    ]
    again = [large(), large()]
    bench.put(*again)
    await bench.settled(*again, deliveries[4])
    assert deliveries[4].verdict is Verdict.REQUEUE
    assert (room.used, room.waiting) == (0, 0)


async def test_a_payload_larger_than_all_the_room_is_handled_alone() -> None:
    room = Room(SIZE)
    bench = Bench(room)
    first, second = large(3 * SIZE), large(3 * SIZE)
    bench.put(first, second)
    bench.go_on.set()
    await bench.settled(first, second)
    assert (first.verdict, second.verdict, room.used) == (Verdict.ACK, Verdict.REQUEUE, 0)


async def test_small_payloads_always_have_room() -> None:
    room = Room(SIZE)
    bench = Bench(room)
    bench.put(large(), *(large(LARGE) for _ in range(50)))
    await asyncio.sleep(0)
    assert (bench.runs, room.waiting) == (51, 0)


async def test_vendors_share_the_room_and_one_wakes_the_other() -> None:
    room = Room(SIZE)
    one, other = Bench(room), Bench(room)
    first, second = large(), large()
    one.put(first)
    other.put(second)
    assert room.waiting == 1
    one.go_on.set()
    await one.settled(first, second)
    assert second.verdict is Verdict.REQUEUE


async def test_a_lost_connection_frees_what_waited_and_keeps_count_of_what_runs() -> None:
    room = Room(3 * SIZE)
    bench = Bench(room, concurrency=1)
    deliveries = [large() for _ in range(5)]
    bench.put(*deliveries)
    await asyncio.sleep(0)
    room.void()
    bench.intake.void()
    assert (room.used, room.waiting) == (SIZE, 0)
    bench.go_on.set()
    await bench.settled(deliveries[0])
    assert room.used == 0
    assert all(delivery.verdict is None for delivery in deliveries[1:])


async def test_at_a_drain_all_that_waits_for_room_goes_back() -> None:
    room = Room(SIZE)
    bench = Bench(room)
    deliveries = [large() for _ in range(3)]
    bench.put(*deliveries)
    room.give_back()
    assert [delivery.verdict for delivery in deliveries] == [None, *[Verdict.REQUEUE] * 2]
