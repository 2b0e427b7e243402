"""What is handled, as values."""

from typing import Any

from bridge import Call, Router
from bridge.routing.catalogue import HandledMessage, HandledVendor, catalogue
from bridge.routing.router import THREADS


async def set_tariff(call: Call, data: dict[str, float]) -> None: ...


def ping(call: Call) -> None: ...


def anything(call: Call, data: Any) -> None: ...


def test_each_vendor_has_its_messages_in_the_order_of_registration_the_default_last() -> None:
    acme, idle = Router("com.Acme", timeout=5.0, threads=2), Router("idle")
    acme.default(anything)
    acme.on("SetTariff", timeout=1.5)(set_tariff)
    acme.on()(ping)
    assert catalogue([acme, idle]) == (
        HandledVendor(
            vendor_id="com.Acme",
            messages=(
                HandledMessage(
                    message_id="SetTariff",
                    data="dict[str, float]",
                    kind="async",
                    timeout=1.5,
                    handler=f"{__name__}.set_tariff",
                ),
                HandledMessage(
                    message_id="", data="-", kind="thread", timeout=5.0, handler=f"{__name__}.ping"
                ),
                HandledMessage(
                    message_id=None,
                    data="Any",
                    kind="thread",
                    timeout=5.0,
                    handler=f"{__name__}.anything",
                ),
            ),
            threads=2,
        ),
        HandledVendor(vendor_id="idle", messages=(), threads=THREADS),
    )


def test_a_handler_without_a_message_of_its_own_says_what_it_is_for() -> None:
    router = Router("v")
    for register in (router.on("SetTariff"), router.on(), router.default):
        register(ping)
    (vendor,) = catalogue([router])
    assert [handled.message for handled in vendor.messages] == [
        "SetTariff",
        "(no messageId)",
        "(default)",
    ]
