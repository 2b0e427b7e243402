"""CALLs are counted under the actions that OCPP has, whatever stations invent."""

from bridge.gateway.websocket.traffic import CALL_ERROR, FROM_STATION, RESPONSE, Traffic


def test_what_no_version_of_ocpp_has_is_counted_as_other() -> None:
    traffic = Traffic()
    for number in range(100_000):
        traffic.count(FROM_STATION, f"Invented{number}", CALL_ERROR)
    for action in ("Heartbeat", "NotifyEvent", "", "heartbeat"):
        traffic.count(FROM_STATION, action, RESPONSE)
    assert traffic.calls == {
        ("from_station", "other", "call_error"): 100_000,
        ("from_station", "Heartbeat", "response"): 1,
        ("from_station", "NotifyEvent", "response"): 1,
        ("from_station", "other", "response"): 2,
    }


def test_only_what_was_answered_is_timed() -> None:
    traffic = Traffic()
    for outcome in (RESPONSE, CALL_ERROR, "unanswered", "offline"):
        traffic.forward(outcome, 1.0)
        traffic.call(outcome, 2.0)
    assert (traffic.forwarded.count, traffic.called.count) == (2, 2)
    assert (traffic.forwarded.sum, traffic.called.sum) == (2.0, 4.0)
