"""Handlers that are wrong, each in its own way: type checkers find every one of them.

The comment "wrong" marks the line where both mypy and pyright must see it. Nobody imports the file:
a test runs its statements one by one, and each of these is refused, but where "typed" says that it
can be seen in the types alone.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from fractions import Fraction
from pathlib import Path

import msgspec

from bridge import (
    Call,
    CallNext,
    Client,
    DataTransferRequest,
    DataTransferResponse,
    Rejected,
    RetryPolicy,
    Router,
)

router = Router("com.acme")


class Tariff(msgspec.Struct):
    price: float


class Stranger:
    """Nothing that msgspec encodes."""


@router.on("Swapped")  # wrong
async def swapped(data: Tariff, call: Call) -> Tariff:
    return data


@router.on("CallIsNumber")  # wrong
async def call_is_number(call: int, data: Tariff) -> Tariff:
    return data


@router.on("DataAlone")  # wrong
async def data_alone(data: Tariff) -> Tariff:
    return data


@router.on("Three")  # wrong
async def three(call: Call, data: Tariff, unit: str) -> Tariff:
    return data


@router.on("Nothing")  # wrong
async def nothing() -> None: ...


@router.on("ByKeyword")  # wrong
async def by_keyword(call: Call, *, data: Tariff) -> Tariff:
    return data


@router.on("CallByKeyword")  # wrong
async def call_by_keyword(*, call: Call) -> None: ...


@router.on("AnswersComplex")  # wrong
async def answers_complex(call: Call) -> complex:
    return 1j


@router.on("AnswersStranger")  # wrong
async def answers_stranger(call: Call, data: Tariff) -> Stranger:
    return Stranger()


@router.on("AnswersClass")  # wrong
async def answers_class(call: Call) -> type[Tariff]:
    return Tariff


@router.on("AnswersType")  # wrong
async def answers_type(call: Call) -> type:
    return Tariff


@router.on("AnswersStrangers")  # wrong
async def answers_strangers(call: Call) -> list[Stranger]:
    return []


@router.on("AnswersStrangersByName")  # wrong
def answers_strangers_by_name(call: Call) -> dict[str, Stranger]:
    return {}


@router.on("AnswersPerhaps")  # wrong
async def answers_perhaps(call: Call) -> Tariff | Stranger:
    return Stranger()


@router.on("AnswersFraction")  # wrong
def answers_fraction(call: Call) -> Fraction:
    return Fraction(1, 3)


@router.on("AnswersPath")  # wrong
def answers_path(call: Call) -> Path:
    return Path()


@router.on("AnswersFunction")  # wrong
def answers_function(call: Call) -> Callable[[], int]:
    return lambda: 1


@router.on("AnswersObject")  # wrong, typed
def answers_object(call: Call) -> object:
    return object()


@router.on("ReturnsRejection")  # wrong
async def returns_rejection(call: Call, data: Tariff) -> Tariff | Rejected:
    return Rejected("InvalidValue")


@router.on("AwaitedTwice")  # wrong
async def awaited_twice(call: Call) -> Awaitable[int]:
    raise NotImplementedError


@router.on("Generator")  # wrong
def generator(call: Call) -> Iterator[int]:
    yield 1


@router.on("AsyncGenerator")  # wrong
async def async_generator(call: Call) -> AsyncIterator[int]:
    yield 1


class Handler:
    def __init__(self, call: Call, data: Tariff) -> None: ...


class HandlesWhenCalled:
    async def __call__(self, call: Call, data: Tariff) -> None: ...


class Methods:
    async def on_tariff(self, call: Call, data: Tariff) -> None: ...


router.on("Class")(Handler)  # wrong
router.on("Object")(HandlesWhenCalled)  # wrong
router.on("Method")(Methods.on_tariff)  # wrong
router.on("Called")(Tariff(1.0))  # wrong


@router.on  # wrong
async def without_parentheses(call: Call) -> None: ...


@router.on(5)  # wrong
async def number(call: Call) -> None: ...


@router.on("Retry", retry=3)  # wrong
async def retry(call: Call) -> None: ...


@router.on("RetryClass", retry=RetryPolicy)  # wrong
async def retry_class(call: Call) -> None: ...


@router.on("Timeout", timeout="5")  # wrong
async def timeout(call: Call) -> None: ...


@router.on("Unknown", timout=5)  # wrong
async def unknown(call: Call) -> None: ...


@router.default  # wrong
async def swapped_default(data: Tariff, call: Call) -> None: ...


@router.default(timeout=5)  # wrong
async def three_by_default(call: Call, data: Tariff, unit: str) -> None: ...


@router.default("Message")  # wrong
async def default_of_message(call: Call) -> None: ...


class SwappedCsms:
    def on_data_transfer(
        self, request: DataTransferRequest, charging_station_id: str
    ) -> DataTransferResponse:
        raise NotImplementedError


router.mount(SwappedCsms())  # wrong, typed
router.mount(Methods())  # wrong
router.mount(Methods)  # wrong

Router("com.wrong", retry=3)  # wrong
Router("com.wrong", timeout="20")  # wrong
Router("com.wrong", prefetch=2.5)  # wrong
Router(None)  # wrong


async def asks(client: Client, request: DataTransferRequest) -> str:
    typed = await client.data_transfer("CP001", request, answer=Tariff)
    found: str = typed.data.price  # wrong, typed
    await client.send_to_station("CP001", request, answer=typed)  # wrong, typed
    await client.data_transfer("CP001", request, timeout="5")  # wrong, typed
    return found


class Tariffs:
    """What a lifespan makes, and whose methods are handlers."""


@router.method("SwappedMethod")  # wrong
async def swapped_method(self: Tariffs, data: Tariff, call: Call) -> Tariff:
    return data


@router.method("MethodOfThree")  # wrong
async def method_of_three(self: Tariffs, call: Call, data: Tariff, unit: str) -> Tariff:
    return data


@router.method("MethodOfNothing")  # wrong
async def method_of_nothing(self: Tariffs) -> None: ...


@router.method("MethodOfStranger")  # wrong
async def method_of_stranger(self: Tariffs, call: Call) -> Stranger:
    return Stranger()


@router.middleware  # wrong
async def too_few(call: Call, data: Tariff) -> Tariff:
    return data


@router.middleware  # wrong
def not_async(call: Call, data: Tariff, call_next: CallNext) -> Tariff:
    return data


@router.lifespan  # wrong
async def without_yield() -> None: ...
