"""The document says where messages go and what is in them, as real workers have it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from bridge import DataTransferRequest, Router, StationMessage
from bridge.dialects.names import Names
from bridge.dialects.partitions import Partitions
from bridge.ocpp import OcppVersion, encode_request, encode_response
from bridge.schema.asyncapi import Document, document
from bridge.schema.messages import vendor_messages
from bridge.testing import ask
from tests.unit.schema import workshop


def made(**changed: Any) -> Document:
    messages = vendor_messages([workshop.router], workshop.to_stations)
    settings: dict[str, Any] = {"title": "Acme", "version": "2.1.0", "names": Names(), **changed}
    found: Document = json.loads(json.dumps(document(messages, **settings)))
    return found


DOCUMENT = made()


def check(payload: bytes, message: str, part: str = "payload", of: Document = DOCUMENT) -> None:
    """Raise ValidationError unless the payload is what the document says of this message."""
    schema = of["components"]["messages"][message][part]
    validator = jsonschema.Draft7Validator({"allOf": [schema], "components": of["components"]})
    value = json.loads(payload)
    validator.validate(value)
    # Draft 7 has no contentSchema: what stands in a text is looked at here.
    inside = schema["properties"].get("data", {})
    if "contentSchema" in inside and "data" in value:
        jsonschema.Draft7Validator(
            {"allOf": [inside["contentSchema"]], "components": of["components"]}
        ).validate(json.loads(value["data"]))


def test_it_tells_where_requests_go_and_from_where_they_are_taken() -> None:
    channel = DOCUMENT["channels"]["requests.com.acme"]
    assert channel["address"] == "com.acme"
    assert channel["bindings"]["amqp"]["exchange"] == {
        "name": "datatransfer",
        "type": "direct",
        "durable": True,
        "autoDelete": False,
    }
    assert channel["x-queues"] == ["datatransfer.com.acme"]
    stations = DOCUMENT["channels"]["stations"]
    assert stations["address"] == "{stationKey}"
    assert stations["bindings"]["amqp"]["exchange"]["name"] == "datatransfer.stations"
    for replies in ("replies", "station-replies"):
        assert DOCUMENT["channels"][replies]["address"] is None


def test_it_knows_another_prefix_and_partitions() -> None:
    other = made(names=Names("x"), partitions={"com.Acme": Partitions(2)})
    channel = other["channels"]["requests.com.acme"]
    assert channel["bindings"]["amqp"]["exchange"]["name"] == "x"
    assert channel["x-queues"] == ["x.com.acme:2.0", "x.com.acme:2.1"]


def test_each_message_is_an_operation_with_its_replies() -> None:
    assert {
        name: (each["action"], each["x-vendor-id"], each["x-message-id"])
        for name, each in DOCUMENT["operations"].items()
    } == {
        "com.acme.GetTariff": ("receive", "com.Acme", "GetTariff"),
        "com.acme.Note": ("receive", "com.Acme", "Note"),
        "com.acme.Whole": ("receive", "com.Acme", "Whole"),
        "com.acme._none": ("receive", "com.Acme", ""),
        "com.acme._other": ("receive", "com.Acme", None),
        "to-station.com.acme.ShowText": ("send", "com.acme", "ShowText"),
        "to-station.com.acme.Restart": ("send", "com.acme", "Restart"),
    }
    operation = DOCUMENT["operations"]["com.acme.GetTariff"]
    assert operation["description"].startswith("Says what a kWh costs.")
    assert parts(operation["messages"]) == {("request", "ocpp1.6"), ("request", "ocpp2")}
    replies = {
        (part, form)
        for part in ("accepted", "refused", "call-error")
        for form in ("ocpp1.6", "ocpp2")
    }
    assert parts(operation["reply"]["messages"]) == replies
    to_station = DOCUMENT["operations"]["to-station.com.acme.ShowText"]
    assert parts(to_station["messages"]) == {("request", None)}
    assert parts(to_station["reply"]["messages"]) == replies | {("station-offline", None)}


def parts(references: list[dict[str, str]]) -> set[tuple[str, str | None]]:
    found = [resolved(resolved(each)) for each in references]
    return {(each["x-part"], each.get("x-ocpp")) for each in found}


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    found: Any = DOCUMENT
    for step in value.get("$ref", "#").split("/")[1:]:
        found = found[step]
    return found if "$ref" in value else value


def test_every_reference_is_to_something_in_it() -> None:
    for reference in references(DOCUMENT):
        assert resolved({"$ref": reference})


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_names_have_no_signs_that_a_key_of_asyncapi_may_not_have() -> None:
    odd = Router("EN+ \N{GREEK SMALL LETTER ALPHA}")
    odd.on("a/b c")(workshop.ping)
    found = document(vendor_messages([odd]), title="", version="", names=Names())
    keys = {*found["components"]["messages"], *found["operations"], *found["channels"]}
    assert [key for key in keys if not re.fullmatch(r"[\w.-]+", key, re.ASCII)] == []


def test_messages_whose_names_would_be_the_same_have_different_ones() -> None:
    first, second = Router("a"), Router("a.b")
    first.on("b.c")(workshop.ping)
    second.on("c")(workshop.ping)
    found = document(vendor_messages([first, second]), title="", version="", names=Names())
    assert len(found["operations"]) == 2


REQUESTS = [
    ("GetTariff", {"connectorId": 1}, "GetTariff", True),
    ("GetTariff", {"connectorId": 1, "kind": "dc"}, "GetTariff", True),
    ("GetTariff", {"connectorId": 0}, "GetTariff", False),
    ("GetTariff", {"connectorId": 1, "kind": "hydrogen"}, "GetTariff", False),
    ("GetTariff", {}, "GetTariff", False),
    ("Note", "Hello", "Note", True),
    (None, None, "_none", True),
    ("Unheard", [1, 2], "_other", True),
]


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize(("message_id", "data", "key", "fits"), REQUESTS)
async def test_what_it_allows_is_what_a_worker_accepts_and_its_answer_is_as_it_says(
    version: OcppVersion, message_id: str | None, data: Any, key: str, fits: bool
) -> None:
    form = "ocpp1.6" if version is OcppVersion.V1_6 else "ocpp2"
    request = DataTransferRequest("com.Acme", message_id, data)
    payload = encode_request(request, version)
    name = f"com.acme.{key}"
    answer = await ask(workshop.router, "com.Acme", message_id, data, version=version)
    assert (answer.status == "Accepted") is fits
    written = encode_response(answer, version)
    if fits:
        check(payload, f"{name}.request.{form}")
        check(written, f"{name}.accepted.{form}")
    else:
        with pytest.raises(jsonschema.ValidationError):
            check(payload, f"{name}.request.{form}")
        check(written, f"refused.{form}")


def test_a_message_to_stations_is_described_as_the_client_sends_it() -> None:
    request = workshop.show_text.request(workshop.Text("Hello"))
    payload = encode_request(request, OcppVersion.V2_0_1)
    check(payload, "to-station.com.acme.ShowText.request")
    with pytest.raises(jsonschema.ValidationError):
        check(payload.replace(b"Hello", b"Hello" * 20), "to-station.com.acme.ShowText.request")
    check(
        b'{"status":"Accepted","data":{"at":"now"}}', "to-station.com.acme.ShowText.accepted.ocpp2"
    )
    text = b'{"status":"Accepted","data":"{\\"at\\":\\"now\\"}"}'
    check(text, "to-station.com.acme.ShowText.accepted.ocpp1.6")
    with pytest.raises(jsonschema.ValidationError):
        check(b'{"status":"Accepted"}', "to-station.com.acme.ShowText.accepted.ocpp2")


def test_each_version_has_the_error_codes_that_it_spells() -> None:
    details = b'"errorDescription":"","errorDetails":{}}'
    check(b'{"errorCode":"FormationViolation",' + details, "call-error.ocpp1.6")
    check(b'{"errorCode":"FormatViolation",' + details, "call-error.ocpp2")
    with pytest.raises(jsonschema.ValidationError):
        check(b'{"errorCode":"FormationViolation",' + details, "call-error.ocpp2")
    check(b'{"errorCode":"Odd",' + details, "station-call-error.ocpp2")


def test_nothing_to_describe_is_a_document_too() -> None:
    empty = document([], title="", version="", names=Names())
    assert (empty["channels"], empty["operations"]) == ({}, {})


def test_types_that_are_both_asked_and_answered_are_there_once() -> None:
    router = Router("v")
    message = StationMessage("v", "M", data=workshop.Text, answer=workshop.Text)
    found = document(vendor_messages([router], [message]), title="", version="", names=Names())
    assert [name for name in found["components"]["schemas"] if "Text" in name] == ["Text"]
