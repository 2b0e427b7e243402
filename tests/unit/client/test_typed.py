"""Answers are read into the type that is asked for, as a handler's data is."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
import pytest

from bridge import (
    Call,
    Client,
    DataTransferRequest,
    DataTransferResponse,
    DataTransferStatus,
    Rejected,
    Router,
    TypedResponse,
    UnexpectedAnswer,
    Worker,
)
from bridge.client.typed import reader_of
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.testing import MemoryBroker, MemoryTransport


class Tariff(msgspec.Struct, rename="camel"):
    energy_price: float
    currency: str = "EUR"


def read(answer: Any, payload: bytes) -> TypedResponse[Any]:
    response = msgspec.json.decode(payload)
    plain = DataTransferResponse(response["status"], response.get("data", msgspec.UNSET))
    return reader_of(answer)(plain, payload)


@pytest.mark.parametrize(
    ("answer", "data", "expected"),
    [
        (Tariff, b'{"energyPrice":0.49}', Tariff(0.49)),
        (Tariff, b'"{\\"energyPrice\\":0.49}"', Tariff(0.49)),  # as a 1.6 station writes it
        (list[Tariff], b'[{"energyPrice":1}]', [Tariff(1.0)]),
        (Tariff | None, b"null", None),
        (Tariff | None, b'""', None),
        (str, b'"text"', "text"),
        (bytes, b'{"a":1}', b'{"a":1}'),
        (dict, b'{"a":[1]}', {"a": [1]}),
        (msgspec.Raw, b'{"a" : 1}', msgspec.Raw(b'{"a" : 1}')),
        (Annotated[int, msgspec.Meta(ge=1, examples=[2])], b"3", 3),
    ],
)
def test_the_data_of_an_answer_that_accepts_is_of_the_type(
    answer: Any, data: bytes, expected: Any
) -> None:
    typed = read(answer, b'{"status":"Accepted","data":%b}' % data)
    assert typed.data == expected
    assert typed.status is DataTransferStatus.ACCEPTED
    assert typed.response.status is DataTransferStatus.ACCEPTED


def test_no_data_is_none_where_the_type_takes_none() -> None:
    assert read(Tariff | None, b'{"status":"Accepted"}').data is None


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'{"status":"Accepted"}', "is no Tariff: data: required and missing"),
        (b'{"status":"Accepted","data":{"energyPrice":"x"}}', r"data\.energyPrice: expected"),
        (b'{"status":"Accepted","data":null}', "is no Tariff: data"),
    ],
)
def test_an_answer_that_accepts_with_other_data_is_unexpected(payload: bytes, why: str) -> None:
    with pytest.raises(UnexpectedAnswer, match=why) as caught:
        read(Tariff, payload)
    assert caught.value.response.status == "Accepted"


def test_an_answer_that_does_not_accept_has_its_status_and_no_such_data() -> None:
    typed = read(Tariff, b'{"status":"Rejected","data":{"energyPrice":1}}')
    assert typed.status is DataTransferStatus.REJECTED
    assert typed.response.data == {"energyPrice": 1}
    assert repr(typed) == "<TypedResponse Rejected>"
    with pytest.raises(UnexpectedAnswer, match="is Rejected, so its data is not what was asked"):
        _ = typed.data


@pytest.mark.parametrize("answer", [complex, Tariff | complex, list[object], "Tariff"])
def test_a_type_that_nothing_can_be_read_as_is_refused(answer: Any) -> None:
    with pytest.raises(TypeError, match="no answer can be read as"):
        reader_of(answer)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    router = Router("com.acme")

    @router.on("GetTariff")
    async def get_tariff(call: Call, data: str) -> Tariff:
        if data == "none":
            raise Rejected("NoTariff", "there is none")
        return Tariff(0.49, data)

    broker = MemoryBroker()
    broker.declare(worker_topology(Native(), ["com.acme"]))
    worker = Worker([router], MemoryTransport(broker))
    running = asyncio.create_task(worker.run())
    async with Client(transport=MemoryTransport(broker), timeout=10) as made:
        yield made
    worker.stop()
    await running


@pytest.mark.parametrize("version", ["ocpp1.6", "ocpp2.0.1"])
async def test_a_client_asks_for_a_type(client: Client, version: str) -> None:
    request = DataTransferRequest("com.acme", "GetTariff", "CHF")
    answer = await client.data_transfer("CP001", request, answer=Tariff, ocpp_version=version)
    assert answer.data == Tariff(0.49, "CHF")
    assert repr(answer) == "<TypedResponse Accepted Tariff(energy_price=0.49, currency='CHF')>"
    with pytest.raises(UnexpectedAnswer, match="is no int"):
        await client.data_transfer("CP001", request, answer=int, ocpp_version=version)


async def test_a_rejection_says_why(client: Client) -> None:
    request = DataTransferRequest("com.acme", "GetTariff", "none")
    answer = await client.data_transfer("CP001", request, answer=Tariff)
    assert answer.status is DataTransferStatus.REJECTED
    assert answer.status_info is not None
    assert answer.status_info.additional_info == "there is none"
    with pytest.raises(UnexpectedAnswer, match=r"is Rejected \('NoTariff'\)"):
        _ = answer.data
