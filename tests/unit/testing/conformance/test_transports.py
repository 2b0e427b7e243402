"""The suite for transports finds what is broken. Ours are tried by it in tests/contract."""

from collections.abc import Callable
from typing import Any

import pytest

from bridge.testing import MemoryTransport
from bridge.testing.conformance import TransportSuite
from bridge.testing.conformance.transporting import starting
from bridge.testing.memory_connection import MemoryConsumer, MemoryDelivery
from bridge.transport import Confirm, Publishing, Verdict
from tests.contract.sides import MemorySide

publish = MemoryTransport.publish


def tell_twice(
    self: MemoryTransport, publishing: Publishing, on_confirm: Callable[[Confirm], None]
) -> None:
    def twice(confirm: Confirm) -> None:
        on_confirm(confirm)
        on_confirm(confirm)

    publish(self, publishing, twice)


def acknowledge(self: MemoryDelivery, _: Confirm, verdict: Verdict) -> None:
    self.consumer.finish(self, verdict)


def settle_at_once(self: MemoryDelivery, verdict: Verdict, *_: Any) -> None:
    self.consumer.finish(self, verdict)


@pytest.mark.parametrize(
    ("broken", "name", "instead", "test", "given"),
    [
        (
            MemoryTransport,
            "publish",
            tell_twice,
            "test_each_publishing_is_reported_once_with_its_fate",
            (),
        ),
        (
            MemoryDelivery,
            "_replied",
            acknowledge,
            "test_a_request_whose_reply_is_refused_comes_back",
            (Verdict.ACK,),
        ),
        (MemoryDelivery, "settle", settle_at_once, "test_settling_twice_is_an_error", (None,)),
        (
            MemoryConsumer,
            "has_room",
            True,
            "test_no_more_than_the_prefetch_of_one_subscription_is_unsettled",
            (),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_transport_that_breaks_a_promise_is_found(
    monkeypatch: pytest.MonkeyPatch,
    broken: type,
    name: str,
    instead: object,
    test: str,
    given: tuple[Any, ...],
) -> None:
    async def play() -> None:
        side = MemorySide()
        await side.declare("v")
        await getattr(TransportSuite(), test)(side, starting(side), *given)

    monkeypatch.setattr("bridge.testing.conformance.sides.PATIENCE", 0.2)
    await play()
    monkeypatch.setattr(broken, name, instead)
    with pytest.raises(Exception) as found:  # noqa: PT011 - however it shows
        await play()
    assert not isinstance(found.value, TypeError)
