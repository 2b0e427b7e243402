"""Handlers and types that are written in less common ways."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Raw, Struct

from bridge import Call
from bridge.request.retry import DELAYS, GRACE, RetryPolicy
from bridge.routing.data import data_reader
from bridge.routing.errors import HandlerError, InvalidData
from bridge.routing.handler import Handler, compile_handler


class Tree(Struct):
    name: str
    branches: list["Tree"] = []
    parent: "Tree | None" = None


class Stranger:
    """A class that msgspec does not know how to decode."""


class Deep(Struct):
    more: "Deep | None" = None
    odd: Stranger | None = None


Volts = Annotated[int, Meta(ge=0, le=1000, description="a voltage", examples=[230])]
Name = Annotated[str, Meta(max_length=3, description="a name")]


class Reading(Struct):
    volts: Volts


def read(data_type: Any, data: bytes) -> Any:
    return data_reader(data_type)(Raw(data))


def test_a_type_may_contain_itself() -> None:
    tree = b'{"name":"a","branches":[{"name":"b","parent":{"name":"c"}}]}'
    value = Tree("a", [Tree("b", parent=Tree("c"))])
    assert read(Tree, tree) == value
    assert read(Tree, msgspec.json.encode(tree.decode())) == value


def test_a_part_that_cannot_be_decoded_is_found_in_a_type_that_contains_itself() -> None:
    with pytest.raises(HandlerError, match="does not know how to decode Stranger"):
        data_reader(Deep)


def test_a_described_type_is_read_and_bounded_like_any_other() -> None:
    assert read(Volts, b"230") == read(Volts, b'"230"') == 230
    assert read(Reading, b'{"volts":230}') == Reading(230)
    assert read(Name, b'"abc"') == "abc", "a text stays a text"
    for data_type, data in ((Volts, b"1001"), (Reading, b'{"volts":-1}'), (Name, b'"abcd"')):
        with pytest.raises(InvalidData):
            read(data_type, data)


async def takes_more(call: Call, data: int, *args: Any, **options: Any) -> None: ...


async def call_and_rest(call: Call, *args: Any, **options: Any) -> None: ...


async def with_option(call: Call, data: int, /, *, option: str = "x") -> None: ...


async def database_first(database: str, call: Call, data: Volts) -> None: ...


def plain(call: Call, data: int, extra: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("function", "data_type", "is_async"),
    [
        (takes_more, int, True),
        (with_option, int, True),
        (functools.partial(with_option, option="y"), int, True),
        (functools.partial(database_first, "db"), Volts, True),
        (functools.partial(functools.partial(database_first, "db")), Volts, True),
        (plain, int, False),
        (functools.partial(plain, extra=2), int, False),
    ],
)
def test_what_can_be_called_with_a_call_and_its_data_is_a_handler(
    function: Callable[..., Any], data_type: Any, *, is_async: bool
) -> None:
    handler: Handler = compile_handler(function, 1.0)
    assert handler.is_async is is_async
    assert (handler.read_data is None) is (data_type is None)
    if data_type is not None:
        assert handler.data_type == data_type


async def rest_alone(*args: Any) -> None: ...


async def no_call(**options: Any) -> None: ...


async def needs_option(call: Call, data: int, *, option: str) -> None: ...


async def needs_third(call: Call, data: int, third: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (rest_alone, r"takes no call but \*args.* have that use functools\.wraps"),
        (call_and_rest, r"takes \*args, and is given no data by it"),
        (no_call, "takes no call"),
        (needs_option, "by keyword"),
        (needs_third, "asks for 'third'"),
        (functools.partial(needs_third, third="x"), None),
        (functools.partial(needs_option, option="x"), None),
    ],
)
def test_what_asks_for_more_is_refused_unless_it_is_given_that(
    function: Callable[..., Any], why: str | None
) -> None:
    if why is None:
        assert compile_handler(function, 1.0).data_type is int
    else:
        with pytest.raises(HandlerError, match=why):
            compile_handler(function, 1.0)


def test_a_policy_has_the_defaults_of_the_documents() -> None:
    """docs/handlers.md."""
    assert RetryPolicy() == RetryPolicy(
        attempts=5, first=1.0, factor=2.0, longest=60.0, jitter=0.5, max_age=3600.0, on=()
    )
    assert (DELAYS[0], DELAYS[-1], len(DELAYS), GRACE) == (0.1, 300.0, 10, 30.0)
