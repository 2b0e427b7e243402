"""The hook for the answer to a BootNotification."""

import datetime as dt
import json
from typing import Any

import pytest

from bridge.gateway.websocket.boot import Boot, BootAnswer, BootHook, RegistrationStatus
from bridge.gateway.websocket.conversation import Answer, Conversation
from bridge.ocpp import CallError, OcppVersion

V16 = OcppVersion.V1_6
NOW = dt.datetime(2026, 3, 14, tzinfo=dt.UTC)
BOOT = {"chargePointVendor": "VendorX", "chargePointModel": "M"}


def booted(hook: BootHook | Any) -> list[Any]:
    """The frame that a station gets which boots."""
    talk = Conversation(V16, heartbeat=300, max_payload=1000, station_id="CP001", on_boot=hook)
    decision = talk.receive(json.dumps([2, "1", "BootNotification", BOOT]), NOW)
    assert isinstance(decision, Answer)
    frame: list[Any] = json.loads(decision.frame)
    return frame


def test_a_hook_is_told_who_boots_and_with_what() -> None:
    seen: list[Boot] = []

    def hook(boot: Boot) -> BootAnswer:
        seen.append(boot)
        return BootAnswer(RegistrationStatus.PENDING, interval=10)

    assert booted(hook)[2] == {
        "status": "Pending",
        "currentTime": "2026-03-14T00:00:00.000Z",
        "interval": 10,
    }
    (boot,) = seen
    assert (boot.station_id, boot.version, json.loads(boot.payload)) == ("CP001", V16, BOOT)


@pytest.mark.parametrize(
    "told",
    [
        None,
        "Pending",
        BootAnswer("Perhaps"),  # type: ignore[arg-type]
        BootAnswer(interval=-1),
        BootAnswer(interval=2**31),
        BootAnswer(interval=1.5),  # type: ignore[arg-type]
    ],
)
def test_what_a_hook_may_not_return_is_an_internal_error_and_is_logged(
    told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert booted(lambda _: told)[:3] == [4, "1", "InternalError"]
    assert "boot hook failed" in caplog.text


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(0), KeyboardInterrupt()])
def test_a_hook_that_fails_costs_one_answer_and_no_word_of_it_goes_out(
    error: BaseException,
) -> None:
    def hook(_: Boot) -> BootAnswer:
        raise error

    frame = booted(hook)
    assert frame[:3] == [4, "1", "InternalError"]
    assert "secret" not in json.dumps(frame)


def test_a_hook_may_answer_with_a_callerror() -> None:
    def hook(_: Boot) -> BootAnswer:
        raise CallError("SecurityError", "not you")

    assert booted(hook) == [4, "1", "SecurityError", "not you", {}]
