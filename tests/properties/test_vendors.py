"""Whatever a station says to a vendor pack: its method is given data of its type, or is not called.

And the other way round: whatever a station answers to a command is read, or refused as its answer.
"""

import asyncio
import datetime as dt
import importlib
import json
from types import NoneType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import DataTransferResponse, UnexpectedAnswer
from bridge.client.typed import reader_of
from bridge.ocpp import OcppVersion, decode_response
from bridge.request.outcome import Kind, Reply
from bridge.routing.data import data_reader
from bridge.vendors import easee
from bridge.vendors.catalogue import packs
from bridge.vendors.pack import messages_of
from tests.properties.test_dispatch import SOME, json_values
from tests.support import a_request, dispatched, payload
from tests.unit.vendors.tables import answering

MESSAGES = [
    pytest.param(pack.name, each, id=f"{pack.name} {each.message_id}")
    for pack in packs()
    for each in pack.from_station
]

FIELDS = [
    *("idToken", "certificate", "csr", "transactionId", "timestamp", "eventId", "errorCode", "SN"),
    *("memberId", "memberID", "token", "status", "meters", "connectorId", "idTag", "p_max"),
]
objects = st.dictionaries(st.sampled_from(FIELDS), json_values | st.text(), max_size=5)
texts = st.text(alphabet="{},1 A.-", max_size=80) | st.builds(
    ",".join, st.lists(st.sampled_from(["1", "", "{1,2}", "C", "48213"]), max_size=30)
)
anything = objects | objects.map(json.dumps) | texts | json_values


@pytest.mark.parametrize(("name", "message"), MESSAGES)
@SOME
@given(data=anything, version=st.sampled_from(OcppVersion))
def test_a_method_is_given_its_type_or_the_station_is_rejected(
    name: str, message: Any, data: Any, version: OcppVersion
) -> None:
    pack = importlib.import_module(f"bridge.vendors.{name}")
    csms = answering(pack.CSMS, None)
    request = a_request(payload(pack.VENDOR_ID, message.message_id, data), version=version)
    outcome = asyncio.run(dispatched(pack.router(csms), request))
    if not csms.given:
        assert isinstance(outcome, Reply)
        assert outcome.kind is Kind.RESPONSE
        assert decode_response(outcome.body, version).status == "Rejected"
        return
    (given_,) = csms.given
    if message.data is NoneType:
        assert given_ is None
    elif hasattr(message.data, "from_text"):
        assert isinstance(given_, message.data)
    else:  # what it was given is what the type has, in JSON as well
        again = msgspec.Raw(msgspec.json.encode(given_))
        assert data_reader(message.data)(again) == given_


def test_every_interface_is_played() -> None:
    modules = [importlib.import_module(f"bridge.vendors.{pack.name}") for pack in packs()]
    interfaces = [module.CSMS for module in modules if hasattr(module, "CSMS")]
    assert len(MESSAGES) == sum(len(list(messages_of(each))) for each in interfaces)


class Station:
    """A client whose station always answers the same."""

    def __init__(self, data: str) -> None:
        self.data = data

    async def send_to_station(self, station_id: str, request: Any, *, answer: Any) -> Any:
        response = DataTransferResponse("Accepted", self.data)
        body = json.dumps({"status": "Accepted", "data": self.data}).encode()
        return reader_of(answer)(response, body)


NOW = dt.datetime.now(dt.UTC)


@given(st.text(alphabet="[]{}:,'\"\\a1.- ", max_size=60) | texts)
def test_nearly_json_is_read_or_refused(text: str) -> None:
    client: Any = Station(text)
    try:
        response = asyncio.run(easee.list_sessions(client, "CS-1", easee.Period(NOW, NOW)))
    except UnexpectedAnswer:
        return
    assert isinstance(response.data, easee.Sessions)
