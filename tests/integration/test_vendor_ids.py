"""Every vendorId has a queue of its own, end to end, whatever its characters."""

import pytest

from bridge import Call, CallError, Router
from bridge.client.client import Client
from tests.integration.support import NAMES, ready, request, working

ODD = [
    "EN+",
    "EN_2b",
    "EV-BOX",
    "\N{HIGH VOLTAGE SIGN}" * 255,
    "a.b.#.*",
    "dead",
    "unknown-vendor",
    "retry.100",
    "é",
    "%",
    " ",
    "a b/c\n",
]
"""Names that might break something: illegal in AMQP, a wildcard, too long, the name of one of our
queues, the key of another vendor."""


def echoing(vendor_id: str) -> Router:
    router = Router(vendor_id)

    @router.default
    async def echo(call: Call) -> list[str]:
        return [vendor_id, call.vendor_id]

    return router


async def test_every_vendor_is_routed_to_its_own_handler(amqp_url: str) -> None:
    async with (
        working(amqp_url, *map(echoing, ODD), echoing("com.Acme")),
        Client(amqp_url) as client,
    ):
        for vendor_id in [*ODD, "com.Acme", "COM.ACME", "com.acme"]:
            response = await client.data_transfer("CP", request(vendor_id))
            registered = "com.Acme" if vendor_id.lower() == "com.acme" else vendor_id
            assert response.data == [registered, vendor_id]
        for unknown in ["EN", "en%2b", "a.b.c.d", "datatransfer.dead", ""]:
            assert (await client.data_transfer("CP", request(unknown))).status == "UnknownVendorId"
    queues = [NAMES.vendor_queue(vendor_id) for vendor_id in [*ODD, "com.Acme"]]
    assert len(set(queues) | {NAMES.dead, NAMES.unknown_vendor}) == len(ODD) + 3
    assert await ready(amqp_url, *queues) == dict.fromkeys(queues, 0)


async def test_vendors_called_as_our_own_queues_leave_those_alone(amqp_url: str) -> None:
    """What fails is still kept as a dead letter, and an unknown vendor still gets its answer."""
    dead = Router("dead")

    @dead.default
    async def fail(call: Call) -> None:
        raise RuntimeError("no")

    async with working(amqp_url, dead, echoing("unknown-vendor")), Client(amqp_url) as client:
        with pytest.raises(CallError, match="InternalError"):
            await client.data_transfer("CP", request("dead"))
        assert (await client.data_transfer("CP", request("unknown-vendor"))).status == "Accepted"
        assert (await client.data_transfer("CP", request("nobody"))).status == "UnknownVendorId"


async def test_a_hundred_vendors_share_the_bound_on_what_is_in_hand(amqp_url: str) -> None:
    routers = [echoing(f"vendor {number}") for number in range(100)]
    async with working(amqp_url, *routers, max_in_flight=1_000) as it, Client(amqp_url) as client:
        assert sum(intake.prefetch for intake in it.worker.intakes) <= 1_000
        assert (await client.data_transfer("CP", request("VENDOR 99"))).data == [
            "vendor 99",
            "VENDOR 99",
        ]
