"""What the dead letters of the broker itself tell: the same in memory and in RabbitMQ."""

import time

from bridge.dead_letters.letter import DeadLetter, read, replayed
from bridge.dialects.native import Native
from bridge.ocpp import OcppVersion
from bridge.transport import Delivery, Publishing, State, Subscription, Verdict
from tests.contract.sides import NAMES, PATIENCE, Side
from tests.contract.test_decision_table import until

QUEUE = NAMES.vendor_queue("com.acme")


def request(seconds: float) -> Publishing:
    """A request whose deadline is so many seconds from now."""
    return Native(NAMES).request_publishing(
        station_id="CP001",
        version=OcppVersion.V2_0_1,
        vendor_id="com.acme",
        body=b'{"vendorId":"com.acme","messageId":"GetTariff"}',
        deadline=time.time() + seconds,
        message_id="m-1",
        correlation_id="c-1",
        reply_to="amq.gen-gone",
    )


async def taken(side: Side) -> tuple[Delivery, DeadLetter]:
    got = await side.take(NAMES.dead)
    delivery = Delivery(got.exchange, got.routing_key, False, got.properties, got.body)
    return delivery, read(delivery)


def check(letter: DeadLetter, reason: str, error: str) -> None:
    assert (letter.reason, letter.error) == (reason, error)
    assert (letter.vendor, letter.message, letter.station) == ("com.acme", "GetTariff", "CP001")
    assert (letter.exchange, letter.routing_key) == (NAMES.requests, "com.acme")
    assert (letter.ocpp_message_id, letter.attempts, letter.worker) == ("m-1", None, "")
    assert letter.failed_at is not None
    assert abs(letter.failed_at.timestamp() - time.time()) < PATIENCE
    assert letter.replayable


async def test_what_expired_in_its_queue(side: Side) -> None:
    await side.declare("com.acme")
    await side.put(request(0.05))
    _, letter = await taken(side)
    check(letter, "expired", f"nobody took it in its time (queue {QUEUE})")


async def test_what_a_worker_rejects_before_and_after_its_deadline(side: Side) -> None:
    await side.declare("com.acme")
    transport = side.transport()

    def reject(delivery: Delivery) -> None:
        delivery.settle(Verdict.REJECT)

    await transport.start([Subscription(QUEUE, 10, reject)], lambda *_: None)
    try:
        await side.put(request(60))
        _, letter = await taken(side)
        check(letter, "rejected", f"a worker rejected it (queue {QUEUE})")
        await side.put(request(-60))
        _, letter = await taken(side)
        past = "its deadline had passed before a worker began with it"
        check(letter, "expired", f"{past} (queue {QUEUE})")
    finally:
        await transport.close()


async def test_what_kills_its_workers_and_what_becomes_of_it_when_it_is_replayed(
    side: Side,
) -> None:
    await side.declare("com.acme", delivery_limit=1)
    transport = side.transport()
    came: list[Delivery] = []
    states: list[State] = []
    subscription = Subscription(QUEUE, 10, came.append)
    await transport.start([subscription], lambda state, _: states.append(state))
    try:
        await side.put(request(60))
        for number in (1, 2):
            await until(lambda: len(came) == number)  # noqa: B023 - it is called here
            side.cut(transport)
            await until(lambda: states.count(State.CONSUMING) == number + 1)  # noqa: B023 - as above
        dead, letter = await taken(side)
        assert letter.reason == "delivery_limit"
        assert letter.error.endswith(f"it may kill its worker (queue {QUEUE})")
        again = replayed(dead, letter)
        assert again is not None
        await side.put(again)
        await until(lambda: len(came) == 3)
        headers = came[2].properties.headers or {}
        assert not [name for name in headers if name.startswith("x-death")]
        assert came[2].properties.reply_to is None
        came[2].settle(Verdict.ACK)
        assert await transport.drain(PATIENCE) == 0
    finally:
        await transport.close()
