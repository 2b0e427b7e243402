"""Requests of other dialects among the dead letters."""

import datetime as dt
import tracemalloc
from typing import Any

import pytest

from bridge.dead_letters.letter import read, replayed
from bridge.dialects import CitrineOs, WebOcpp
from bridge.request.outcome import Failure, Reason
from bridge.transport import Delivery, Properties, Publishing

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


def death(reason: str = "delivery_limit", **changes: Any) -> dict[str, Any]:
    return {
        "count": 1,
        "reason": reason,
        "queue": "datatransfer.com.acme",
        "time": NOW,
        "exchange": "datatransfer",
        "routing-keys": ["com.acme"],
    } | changes


def arrived(publishing: Publishing) -> Delivery:
    """What the dead-letter queue delivers of a publishing."""
    return Delivery(
        publishing.exchange, publishing.routing_key, False, publishing.properties, publishing.body
    )


FRAME = b'[2,"m-1","DataTransfer",{"vendorId":"com.Acme","messageId":"GetTariff"}]'
CITRINE = (
    b'{"_origin":"cs","_action":"DataTransfer","_state":1,"_protocol":"ocpp1.6",'
    b'"_context":{"ocppConnectionName":"CP1","correlationId":"m-1","tenantId":1},'
    b'"_payload":{"vendorId":"com.Acme","messageId":"GetTariff"}}'
)


def expired_frame(**changes: Any) -> Delivery:
    """A request of web-ocpp that expired in its queue, with what the broker adds to it."""
    told = death("expired", queue="datatransfer-web-ocpp.ocpp16", exchange="amq.topic", **changes)
    told["routing-keys"] = ["ocpp16.DataTransfer.req"]
    properties = Properties(
        correlation_id="m-1", reply_to="CP1", type="DataTransfer", headers={"x-death": [told]}
    )
    return Delivery("datatransfer.dead", "ocpp16.DataTransfer.req", False, properties, FRAME)


def expired_envelope() -> Delivery:
    """A request of CitrineOS that was delivered too often."""
    told = death("delivery_limit", queue="datatransfer-citrineos", exchange="citrineos")
    told["routing-keys"] = [""]
    headers = {"action": "DataTransfer", "origin": "cs", "state": "1", "x-death": [told]}
    return Delivery("datatransfer.dead", "", False, Properties(headers=headers), CITRINE)


@pytest.mark.parametrize(
    ("delivery", "reason", "queue", "version"),
    [
        (expired_frame(), "expired", "datatransfer-web-ocpp.ocpp16", ""),
        (expired_envelope(), "delivery_limit", "datatransfer-citrineos", "ocpp1.6"),
    ],
)
def test_a_dialects_request_is_read_by_its_form_and_goes_back_to_its_queue(
    delivery: Delivery, reason: str, queue: str, version: str
) -> None:
    letter = read(delivery)
    assert (letter.reason, letter.vendor, letter.message, letter.station) == (
        reason,
        "com.Acme",
        "GetTariff",
        "CP1",
    )
    assert (letter.ocpp_message_id, letter.ocpp_version) == ("m-1", version)
    assert (letter.exchange, letter.routing_key, letter.replayable) == ("", queue, True)
    again = replayed(delivery, letter)
    assert again is not None
    assert (again.exchange, again.routing_key, again.body) == ("", queue, delivery.body)
    headers = again.properties.headers or {}
    assert (headers["ocpp-station-id"], headers["dtbridge-replayed"]) == ("CP1", 1)
    assert "x-death" not in headers
    assert again.properties.reply_to is None


def test_a_replayed_request_of_a_dialect_is_one_again_that_nobody_waits_for() -> None:
    for dialect, delivery in ((WebOcpp(), expired_frame()), (CitrineOs(), expired_envelope())):
        again = replayed(delivery, read(delivery))
        assert again is not None
        request = dialect.request(
            Delivery("", again.routing_key, False, again.properties, again.body)
        )
        assert (request.station_id, request.ocpp_message_id, request.reply_wanted) == (
            "CP1",
            "m-1",
            False,
        )
        failure = Failure(None, Reason.FAILED, "again")
        letter = read(arrived(dialect.dead_letter(request, failure, "host:1")))
        assert (letter.station, letter.replayed, letter.replayable, letter.exchange) == (
            "CP1",
            1,
            True,
            "",
        )


@pytest.mark.parametrize(
    "body",
    [
        b'{"vendorId":"v","payload":{},"context":{}}',
        b'{"payload":{}}',
        b"[2]",
        b"[2,",
        b"[]",
        b"{",
        b'{"context":7,"payload":null}',
        b'[2,7,7,"\xff"]',
    ],
)
def test_what_only_looks_like_another_dialect_is_read_all_the_same(body: bytes) -> None:
    letter = read(
        Delivery(
            "datatransfer",
            "com.acme",
            False,
            Properties(headers={"x-death": [death(queue=7)]}),
            body,
        )
    )
    assert letter.size == len(body)


MEGABYTES = 4
EMPTY = b"[]," * (MEGABYTES * 350_000)
LARGE = {
    "an array of small things": b"[" + EMPTY + b"0]",
    "a frame with a large id": b"[2,[" + EMPTY + b'0],"DataTransfer",{}]',
    "a frame with much behind it": b'[2,"m","DataTransfer",{},' + EMPTY + b"0]",
    "an object of small things": b"{"
    + b",".join(b'"%d":0' % number for number in range(MEGABYTES * 90_000))
    + b"}",
    "a large context": b'{"payload":{},"context":[' + EMPTY + b"0]}",
    "a large station": b'{"payload":{},"context":{"stationId":[' + EMPTY + b"0]}}",
    "a large vendor": b'{"vendorId":[' + EMPTY + b"0]}",
    "a long vendor": b'{"vendorId":"' + b"x" * (MEGABYTES << 20) + b'"}',
    "large data": b'{"vendorId":"a","data":[' + EMPTY + b"0]}",
    "space": b" " * (MEGABYTES << 20),
    "depth": b"[" * (MEGABYTES << 20),
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_reading_a_large_body_takes_next_to_no_memory(body: bytes) -> None:
    headers = {"x-death": [death("expired", queue="q", exchange="e")]}
    delivery = Delivery("datatransfer.dead", "k", False, Properties(headers=headers), body)
    tracemalloc.start()
    try:
        read(delivery)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000
