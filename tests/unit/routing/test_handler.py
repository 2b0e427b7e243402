"""What a handler may look like, and which functions are refused."""

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from msgspec import UNSET, Raw, Struct

from bridge import Call
from bridge.routing.errors import HandlerError, InvalidData
from bridge.routing.handler import compile_handler
from tests.unit.routing import deferred_handlers


class Tariff(Struct):
    price: float
    currency: str = "EUR"


class Meter(Struct):
    value: int


async def waits(call: Call, data: Tariff) -> None: ...


def plain(call: Call, data: Tariff) -> None: ...


def no_data(call: Call) -> None: ...


def extra_with_default(call: Call, data: str, unit: str = "Wh", *, scale: int = 1) -> None: ...


class Waiting:
    async def __call__(self, call: Call, data: Tariff) -> None: ...


class Plain:
    def __call__(self, call: Call, data: Tariff) -> None: ...

    def method(self, call: Call, data: Tariff) -> None: ...


def with_database(database: str, call: Call, data: Tariff) -> None: ...


@functools.wraps(waits)
def decorated(*arguments: Any) -> Any:
    return waits(*arguments)


@pytest.mark.parametrize(
    ("function", "is_async", "type_name", "name"),
    [
        (waits, True, "Tariff", "waits"),
        (plain, False, "Tariff", "plain"),
        (no_data, False, "-", "no_data"),
        (extra_with_default, False, "str", "extra_with_default"),
        (Waiting(), True, "Tariff", "Waiting"),
        (Plain(), False, "Tariff", "Plain"),
        (Plain().method, False, "Tariff", "Plain.method"),
        (functools.partial(with_database, "db"), False, "Tariff", "with_database"),
        (decorated, False, "Tariff", "waits"),
        (deferred_handlers.takes_struct, True, "Meter", "takes_struct"),
        (deferred_handlers.CallableObject(), True, "Meter", "CallableObject"),
    ],
)
def test_a_handler_is_anything_that_can_be_called_with_a_call_and_data(
    function: Any, is_async: bool, type_name: str, name: str
) -> None:
    handler = compile_handler(function, 2.5)
    assert handler.is_async is is_async
    assert handler.type_name == type_name
    assert name in handler.name
    assert handler.timeout == 2.5
    assert (handler.read_data is None) is (type_name == "-")


def test_annotations_that_are_strings_are_resolved() -> None:
    meter = deferred_handlers.Meter("1", 2)
    raw = Raw(b'{"serial":"1","value":2}')
    reader = compile_handler(deferred_handlers.takes_struct, 1).read_data
    assert reader is not None
    assert reader(raw) == meter
    reader = compile_handler(deferred_handlers.takes_optional_list, 1).read_data
    assert reader is not None
    assert reader(UNSET) is None
    assert reader(Raw(b'[{"serial":"1","value":2}]')) == [meter]
    reader = compile_handler(deferred_handlers.takes_constrained, 1).read_data
    assert reader is not None
    with pytest.raises(InvalidData):
        reader(Raw(b"0"))


def untyped(call, data) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001 - the point


def too_many(call: Call, data: str, unit: str) -> None: ...


def keyword_only(call: Call, *, data: str) -> None: ...


def nothing() -> None: ...


def generator(call: Call, data: str) -> Iterator[int]:
    yield 1


async def async_generator(call: Call, data: str) -> AsyncIterator[int]:
    yield 1


class Generator:
    def __call__(self, call: Call, data: str) -> Iterator[int]:
        yield 1


def takes_complex(call: Call, data: complex) -> None: ...


def takes_list_of_objects(call: Call, data: list[Plain]) -> None: ...


def takes_raw_or_text(call: Call, data: Raw | str) -> None: ...


def takes_two_structs(call: Call, data: Tariff | Meter) -> None: ...


@pytest.mark.parametrize(
    ("function", "name", "sentence"),
    [
        (untyped, "untyped", "does not say the type of 'data'"),
        (too_many, "too_many", "asks for 'unit': a handler is (call, data) or (call)"),
        (keyword_only, "keyword_only", "asks for 'data' by keyword"),
        (nothing, "nothing", "takes no call"),
        (generator, "generator", "is a generator: a handler returns one answer"),
        (async_generator, "async_generator", "is a generator"),
        (Generator(), "Generator", "is a generator"),
        (takes_complex, "takes_complex", "msgspec does not know how to decode complex"),
        (
            takes_list_of_objects,
            "takes_list_of_objects",
            "msgspec does not know how to decode Plain",
        ),
        (takes_raw_or_text, "takes_raw_or_text", "msgspec.Raw takes any JSON"),
        (takes_two_structs, "takes_two_structs", "cannot be given its data"),
        (
            deferred_handlers.takes_unknown,
            "takes_unknown",
            "there is no such name where it is defined",
        ),
        (deferred_handlers.takes_nonsense, "takes_nonsense", "is no type"),
        ("text", "'text'", "is not a function"),
    ],
)
def test_a_function_that_could_not_be_called_is_refused_with_a_sentence_that_names_it(
    function: Any, name: str, sentence: str
) -> None:
    with pytest.raises(HandlerError) as caught:
        compile_handler(function, 1.0)
    assert name in str(caught.value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_more_than_nothing(timeout: float) -> None:
    with pytest.raises(HandlerError, match="no_data must be more than 0 seconds"):
        compile_handler(no_data, timeout)
