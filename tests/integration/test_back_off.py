"""Sessions that end soon after they were opened are followed by longer and longer pauses."""

import pytest

from bridge.rabbitmq import transport as module
from bridge.transport import State
from tests.integration.support import WatchedTransport

LOSSES = 6


async def pauses(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The failures that each pause was made for, while session after session is lost."""
    told: list[int] = []

    def back_off(failures: int, **_: float) -> float:
        told.append(failures)
        return 0.0

    monkeypatch.setattr(module, "back_off", back_off)
    transport = WatchedTransport(amqp_url)
    await transport.start([], lambda *_: None)
    try:
        for _ in range(LOSSES):
            session, seen = transport._session, len(transport.history)
            assert session is not None
            session.end("lost by the test")
            await transport.until(State.CONNECTING, State.CONSUMING, since=seen)
    finally:
        await transport.close()
    return told


async def test_sessions_that_live_briefly_back_off(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await pauses(amqp_url, monkeypatch) == list(range(LOSSES))


async def test_a_session_that_has_lived_for_a_while_makes_the_next_loss_a_first_one(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEADY", 0.0)
    assert await pauses(amqp_url, monkeypatch) == [0] * LOSSES
