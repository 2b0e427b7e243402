"""A pack of one's own: what it takes, and how mistakes are told."""

from typing import Any, Protocol

import pytest
from msgspec import Struct

from bridge import (
    Call,
    DataTransferRequest,
    DataTransferResponse,
    HandlerError,
    Lenient,
    Rejected,
    Router,
)
from bridge.routing.catalogue import catalogue
from bridge.testing import TestBridge, ask
from bridge.vendors.pack import (
    Answer,
    BareCommand,
    Certainty,
    Command,
    Message,
    make_router,
    message,
    messages_of,
)


class Query(Struct):
    connector: int


class Tariff(Struct):
    price: float


class CSMS(Protocol):
    @message("GetTariff")
    def get_tariff(self, call: Call, data: Lenient[Query], /) -> Answer[Tariff]:
        """What does it cost?"""

    @message()
    def ping(self, call: Call, /) -> Answer[None]: ...

    def of_its_own(self) -> None: ...


class Mine:
    async def get_tariff(self, call: Call, data: Query) -> Tariff:
        if data.connector > 2:
            raise Rejected("UnknownConnector")
        return Tariff(0.3)

    async def ping(self, call: Call) -> None: ...


def router(csms: Any) -> Router:
    return make_router("com.acme", CSMS, csms)


def test_the_interface_is_the_table_of_messages() -> None:
    assert list(messages_of(CSMS)) == [
        Message("GetTariff", Lenient[Query], Tariff, "get_tariff", "What does it cost?"),
        Message("", type(None), type(None), "ping"),
    ]


async def test_methods_answer_by_the_types_of_the_interface() -> None:
    response = await ask(router(Mine()), "com.acme", "GetTariff", {"connector": "2.0"})
    assert response.data == {"price": 0.3}
    assert (await ask(router(Mine()), "com.acme", data="anything")).status == "Accepted"


async def test_a_method_may_reject() -> None:
    response = await ask(router(Mine()), "com.acme", "GetTariff", {"connector": 3})
    assert response.status == "Rejected"


def test_people_find_the_methods_by_their_own_names() -> None:
    (vendor,) = catalogue([router(Mine())])
    named = [(each.message, each.data, each.kind, each.handler) for each in vendor.messages]
    module = Mine.__module__
    assert named == [
        ("GetTariff", "Query", "async", f"{module}.Mine.get_tariff"),
        ("(no messageId)", "-", "async", f"{module}.Mine.ping"),
    ]


class WithoutPing:
    async def get_tariff(self, call: Call, data: Query) -> Tariff:
        return Tariff(0.3)


class WithoutData(Mine):
    async def get_tariff(self, call: Call) -> Tariff:  # type: ignore[override]
        return Tariff(0.3)


@pytest.mark.parametrize(
    ("csms", "sentence"),
    [
        (Mine, r"give an object, not its class: router\(Mine\(\)\)"),
        (WithoutPing(), "WithoutPing has no method ping, which answers requests without messageId"),
        (
            type("Plain", (CSMS,), {})(),
            "Plain has no method get_tariff, which answers GetTariff of vendor 'com.acme'",
        ),
        (WithoutData(), r"WithoutData.get_tariff must be a method \(call, data\): too many"),
    ],
)
def test_a_wrong_implementation_is_refused_with_a_sentence(csms: Any, sentence: str) -> None:
    with pytest.raises(HandlerError, match=sentence):
        router(csms)


async def priced(request: DataTransferRequest) -> DataTransferResponse:
    return DataTransferResponse("Accepted", '{"price":"0.5"}')


SHOW = Command("com.acme", "Show", Query, Tariff)


async def test_a_command_reads_answers_leniently() -> None:
    async with TestBridge([]) as bridge:
        client = await bridge.client()
        async with bridge.station("CS-1", priced):
            response = await SHOW(client, "CS-1", Query(1), timeout=5)
    assert response.data == Tariff(0.5)


def test_a_command_can_be_another_vendors() -> None:
    other = SHOW.for_vendor("com.other")
    assert other.request(Query(1)).vendor_id == "com.other"
    assert repr(other) == "<Command 'com.other' 'Show'>"


def test_a_command_that_takes_nothing_sends_always_the_same() -> None:
    assert BareCommand("com.acme", "Go", Tariff, sent={"now": True}).request().data == {"now": True}


def test_certainties_are_words() -> None:
    assert list(Certainty) == ["specified", "documented", "observed"]


async def test_a_method_may_be_decorated_and_return_what_is_to_be_awaited() -> None:
    class Decorated(Mine):
        def get_tariff(self, call: Call, data: Query) -> Any:
            return super().get_tariff(call, data)

    async with TestBridge(router(Decorated())) as bridge:
        answer = await bridge.data_transfer("CP1", "com.acme", "GetTariff", {"connector": 1})
        assert (answer.status, answer.data) == ("Accepted", {"price": 0.3})
        answer = await bridge.data_transfer("CP1", "com.acme", "GetTariff", {"connector": 3})
        assert answer.status == "Rejected"
