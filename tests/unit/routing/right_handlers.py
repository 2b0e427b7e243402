"""Handlers that are right, in every way: neither mypy nor pyright has anything to say of them."""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Generic, NamedTuple, NoReturn, TypedDict, TypeVar, assert_type

import msgspec

from bridge import (
    Call,
    Client,
    DataTransferRequest,
    DataTransferResponse,
    DataTransferStatus,
    Rejected,
    RetryPolicy,
    Router,
    TypedResponse,
)

router = Router("com.acme", retry=RetryPolicy(on=(ConnectionError,)))


class Tariff(msgspec.Struct, rename="camel"):
    energy_price: float


class Query(msgspec.Struct):
    connector_id: int


@dataclasses.dataclass
class Reading:
    value: int


class Point(NamedTuple):
    x: int
    y: int


class Named(TypedDict):
    name: str


class Unit(enum.Enum):
    WH = "Wh"


Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item]):
    items: list[Item]


@router.on("GetTariff")
async def get_tariff(call: Call, data: Query) -> Tariff:
    return Tariff(0.49)


@router.on()
async def ping(call: Call) -> None: ...


@router.on("Plain", timeout=5, retry=RetryPolicy(attempts=3))
def plain(call: Call, data: Query) -> dict[str, int]:
    return {"connector": data.connector_id}


@router.default
def anything_else(call: Call, data: msgspec.Raw) -> None: ...


kept = Router("com.kept")


@kept.on("Positional")
async def positional(call: Call, data: Query, /, unit: str = "Wh", *, scale: int = 1) -> float:
    return data.connector_id * scale


@kept.on("OtherNames")
async def other_names(request: Call, query: Query | None = None) -> Tariff | None:
    return None


@kept.on("Any")
async def any_(call: Any, data: Any) -> Any:
    return data


@kept.on("Object")
async def object_(call: object, data: Any) -> list[object]:
    return [data]


@kept.on("Constrained")
async def constrained(call: Call, data: Annotated[int, msgspec.Meta(ge=1)]) -> int:
    return data


@kept.on("Response")
async def response(call: Call) -> DataTransferResponse:
    return DataTransferResponse(DataTransferStatus.REJECTED)


@kept.on("Either")
async def either(call: Call) -> DataTransferResponse | Tariff | str | None:
    return "text"


@kept.on("Raises")
async def raises(call: Call) -> NoReturn:
    raise Rejected("NoCredit")


@kept.on("Reading")
def reading(call: Call) -> Reading:
    return Reading(1)


@kept.on("Tuple")
def tuple_(call: Call) -> tuple[int, str, Tariff]:
    return (1, "a", Tariff(1.0))


@kept.on("Named")
def named(call: Call) -> Named:
    return {"name": "a"}


@kept.on("Point")
def point(call: Call) -> list[Point]:
    return [Point(1, 2)]


@kept.on("Nested")
def nested(call: Call) -> dict[str, list[Named | Tariff | dict[int, Unit]]]:
    return {}


@kept.on("Page")
def page(call: Call) -> Page[Tariff]:
    return Page([Tariff(1.0)])


@kept.on("Whatever")
def whatever(call: Call) -> dict[str, object]:
    return {"a": 1}


@kept.on("WhateverElse")
def whatever_else(call: Call) -> Mapping[str, Any]:
    return {}


@kept.on("Sequence")
def sequence(call: Call) -> Sequence[dict[str, Any]]:
    return []


@kept.on("Set")
def set_(call: Call) -> frozenset[str] | set[int]:
    return frozenset()


@kept.on("Scalars")
def scalars(
    call: Call,
) -> bool | bytes | dt.datetime | dt.timedelta | decimal.Decimal | uuid.UUID | Unit:
    return Unit.WH


@kept.on("Unset")
def unset(call: Call) -> Tariff | msgspec.UnsetType:
    return msgspec.UNSET


@kept.on("Awaitable")
def awaitable(call: Call) -> Awaitable[Tariff]:
    return get_tariff(call, Query(1))


class Service:
    """Whose methods are handlers."""

    async def on_tariff(self, call: Call, data: Query) -> Tariff:
        return Tariff(1.0)

    async def __call__(self, call: Call) -> None: ...


service = Service()
kept.on("Method")(service.on_tariff)
kept.on("Callable")(service)
kept.on("Partial")(functools.partial(positional, scale=2))

Function = TypeVar("Function", bound=Callable[..., Any])


def timed(function: Function) -> Function:
    return function


@kept.on("Decorated")
@timed
async def decorated(call: Call, data: Query) -> Tariff:
    return Tariff(1.0)


@kept.on("First")
@kept.on("Second")
async def two_messages(call: Call, data: Query) -> Tariff:
    return Tariff(1.0)


@kept.default(timeout=3.0)
async def rest(call: Call, data: Any = None) -> str:
    return "rest"


class Csms:
    async def on_data_transfer(
        self, charging_station_id: str, request: DataTransferRequest
    ) -> DataTransferResponse:
        return DataTransferResponse("Accepted")


mounted = Router("com.mounted")
mounted.mount(Csms())


async def keeps_its_type(call: Call) -> None:
    """A function is of the same type after it is registered as before."""
    assert_type(await get_tariff(call, Query(1)), Tariff)
    assert_type(plain(call, Query(1)), dict[str, int])
    assert_type(await ping(call), None)
    assert_type(await rest(call), str)
    assert_type(await positional(call, Query(1), unit="kWh", scale=2), float)
    assert_type(kept.on("X")(service), Service)
    coroutine: Coroutine[Any, Any, Tariff] = two_messages(call, data=Query(1))
    assert_type(await coroutine, Tariff)
    assert_type(await service.on_tariff(call, Query(1)), Tariff)


async def asks(client: Client, request: DataTransferRequest) -> None:
    """An answer is of the type that was asked for."""
    plain_answer = await client.data_transfer("CP001", request)
    assert_type(plain_answer, DataTransferResponse)
    assert_type(plain_answer.status, DataTransferStatus)
    typed = await client.data_transfer("CP001", request, answer=Tariff)
    assert_type(typed, TypedResponse[Tariff])
    assert_type(typed.data, Tariff)
    assert_type(typed.status, DataTransferStatus)
    listed = await client.send_to_station("CP001", request, answer=list[Tariff], timeout=5)
    assert_type(listed.data, list[Tariff])
    assert_type((await client.send_to_station("CP001", request, answer=str)).data, str)
    perhaps: Tariff | None = (
        await client.send_to_station("CP001", request, answer=Tariff | None)
    ).data
    assert_type(perhaps, Tariff | None)
    assert_type(await client.send_to_station("CP001", request), DataTransferResponse)
