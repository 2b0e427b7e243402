"""What the gateway answers by itself, checked against schemas that another implementation ships."""

import datetime as dt
import json
from typing import Any

import pytest
from ocpp.messages import MessageType, get_validator

from bridge.gateway.websocket.boot import BootAnswer, RegistrationStatus
from bridge.gateway.websocket.local_answers import local_answer, rfc3339
from bridge.ocpp import CallError, ErrorCode, OcppVersion

V16, V20, V201, V21 = OcppVersion
NOW = dt.datetime(2026, 3, 14, 18, 22, 5, 318_999, tzinfo=dt.UTC)
VALIDATED = {V16: "1.6", V201: "2.0.1", V21: "2.1"}
"""The versions whose schemas are shipped. Those of 2.0 were withdrawn."""

BOOT_16 = {
    "chargePointVendor": "VendorX",
    "chargePointModel": "SingleSocketCharger",
    "firmwareVersion": "1",
}
BOOT_2 = {
    "reason": "PowerUp",
    "chargingStation": {"model": "SingleSocketCharger", "vendorName": "VendorX"},
}
STATUS_16 = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
STATUS_2 = {
    "timestamp": "2026-03-14T18:22:05Z",
    "connectorStatus": "Available",
    "evseId": 1,
    "connectorId": 2,
}
REQUESTS: list[tuple[OcppVersion, str, Any, dict[str, Any]]] = [
    (V16, "BootNotification", BOOT_16, {"vendor": "VendorX", "model": "SingleSocketCharger"}),
    *(
        (
            version,
            "BootNotification",
            BOOT_2,
            {"vendor": "VendorX", "model": "SingleSocketCharger", "reason": "PowerUp"},
        )
        for version in (V20, V201, V21)
    ),
    *((version, "Heartbeat", {}, {}) for version in OcppVersion),
    (V16, "Heartbeat", None, {}),
    (V201, "Heartbeat", {"customData": {"vendorId": "v"}}, {}),
    (
        V16,
        "StatusNotification",
        STATUS_16,
        {"connector": 1, "status": "Available", "error_code": "NoError"},
    ),
    *(
        (
            version,
            "StatusNotification",
            STATUS_2,
            {"evse": 1, "connector": 2, "status": "Available"},
        )
        for version in (V20, V201, V21)
    ),
]


@pytest.mark.parametrize(("version", "action", "request_", "facts"), REQUESTS)
def test_an_answer_is_what_the_schema_asks_for(
    version: OcppVersion, action: str, request_: Any, facts: dict[str, Any]
) -> None:
    answer = local_answer(action, json.dumps(request_).encode(), version, now=NOW, heartbeat=300)
    assert answer is not None
    assert answer.facts == facts
    payload = json.loads(answer.payload)
    if version in VALIDATED:
        get_validator(MessageType.CallResult, action, VALIDATED[version]).validate(payload)
    time = {"currentTime": "2026-03-14T18:22:05.318Z"}
    expected = {
        "BootNotification": {"status": "Accepted", "interval": 300, **time},
        "Heartbeat": time,
        "StatusNotification": {},
    }
    assert payload == expected[action]


@pytest.mark.parametrize(
    ("version", "action", "payload", "code", "text"),
    [
        (
            V16,
            "BootNotification",
            b"{}",
            ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
            "chargePointVendor: required",
        ),
        (
            V16,
            "BootNotification",
            b"null",
            ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
            "chargePointVendor: required",
        ),
        (
            V16,
            "BootNotification",
            b'{"chargePointVendor":"VendorX","chargePointModel":"%b"}' % (b"m" * 256),
            ErrorCode.PROPERTY_CONSTRAINT_VIOLATION,
            "chargePointModel: expected a string of at most 255 characters",
        ),
        (
            V201,
            "BootNotification",
            b'{"reason":"PowerUp","chargingStation":{"model":7,"vendorName":"v"}}',
            ErrorCode.TYPE_CONSTRAINT_VIOLATION,
            "chargingStation.model: expected a string, got an integer",
        ),
        (
            V21,
            "Heartbeat",
            b"[]",
            ErrorCode.TYPE_CONSTRAINT_VIOLATION,
            "payload: expected an object, got an array",
        ),
        (
            V16,
            "StatusNotification",
            b'{"connectorId":1}',
            ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
            "errorCode: ",
        ),
        (
            V16,
            "StatusNotification",
            b'{"status":"\xff"}',
            ErrorCode.FORMAT_VIOLATION,
            "payload: invalid UTF-8",
        ),
    ],
)
def test_a_payload_that_breaks_the_schema_is_told(
    version: OcppVersion, action: str, payload: bytes, code: ErrorCode, text: str
) -> None:
    with pytest.raises(CallError) as caught:
        local_answer(action, payload, version, now=NOW, heartbeat=300)
    assert caught.value.code == code
    assert caught.value.description.startswith(text)


@pytest.mark.parametrize("action", ["DataTransfer", "MeterValues", "bootnotification", ""])
def test_any_other_action_is_not_answered_here(action: str) -> None:
    assert local_answer(action, b"{}", V16, now=NOW, heartbeat=300) is None


def test_time_is_utc_whatever_the_clock_shows() -> None:
    there = dt.timezone(dt.timedelta(hours=5, minutes=30))
    assert rfc3339(dt.datetime(2026, 1, 1, 0, 0, tzinfo=there)) == "2025-12-31T18:30:00.000Z"


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize("length", [23, 29, 51, 255])
def test_a_station_boots_however_long_the_name_of_its_model_and_its_vendor_are(
    version: OcppVersion, length: int
) -> None:
    vendor, model = "v" * length, "é" * length
    payload: dict[str, Any] = {"chargePointVendor": vendor, "chargePointModel": model}
    if version is not V16:
        station = {"vendorName": vendor, "model": model}
        payload = {"reason": "PowerUp", "chargingStation": station}
    body = json.dumps(payload).encode()
    answer = local_answer("BootNotification", body, version, now=NOW, heartbeat=300)
    assert answer is not None
    assert json.loads(answer.payload)["status"] == "Accepted"
    assert (answer.facts["vendor"], answer.facts["model"]) == (vendor, model)


@pytest.mark.parametrize(
    ("told", "status", "interval"),
    [
        (BootAnswer(), "Accepted", 300),
        (BootAnswer(RegistrationStatus.PENDING, 30), "Pending", 30),
        (BootAnswer(RegistrationStatus.REJECTED, 0), "Rejected", 0),
    ],
)
@pytest.mark.parametrize("version", [V16, V201, V21])
def test_a_hook_says_how_a_station_that_boots_is_answered(
    version: OcppVersion, told: BootAnswer, status: str, interval: int
) -> None:
    payload = json.dumps(BOOT_16 if version is V16 else BOOT_2).encode()
    seen: list[bytes] = []

    def on_boot(payload: bytes) -> BootAnswer:
        seen.append(payload)
        return told

    answer = local_answer(
        "BootNotification", payload, version, now=NOW, heartbeat=300, on_boot=on_boot
    )
    assert answer is not None
    response = json.loads(answer.payload)
    assert (response["status"], response["interval"]) == (status, interval)
    get_validator(MessageType.CallResult, "BootNotification", VALIDATED[version]).validate(response)
    assert answer.facts["answer"] == status
    assert seen == [payload]
    local_answer("Heartbeat", b"{}", version, now=NOW, heartbeat=300, on_boot=on_boot)
    assert seen == [payload]
