"""How a handler's data becomes what its annotation says."""

import enum
import inspect
import sys
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Optional

import msgspec
import pytest
from msgspec import UNSET, Meta, Raw, Struct

from bridge import Call, Lenient
from bridge.routing.data import data_reader
from bridge.routing.errors import InvalidData
from bridge.routing.handler import compile_handler


class Tariff(Struct):
    price: float
    currency: str = "EUR"


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Failing(Struct):
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("below zero")


class Row(NamedTuple):
    data_type: Any
    json: str
    value: Any


LENIENT: Any = Lenient  # for types that are no types to mypy where they are values
TARIFF = '{"price":1.5}'
IN_A_STRING = r'"{\"price\":1.5}"'

FITS = [
    Row(Tariff, TARIFF, Tariff(1.5)),
    Row(Tariff, IN_A_STRING, Tariff(1.5)),
    Row(list[Tariff], f"[{TARIFF}]", [Tariff(1.5)]),
    Row(list[Tariff], r'"[{\"price\":1.5}]"', [Tariff(1.5)]),
    Row(list["Tariff"], f"[{TARIFF}]", [Tariff(1.5)]),
    Row(Optional["Tariff"], TARIFF, Tariff(1.5)),
    Row(Tariff | None, TARIFF, Tariff(1.5)),
    Row(Tariff | None, "null", None),
    Row(Tariff | None, '""', None),
    Row(Tariff | None, IN_A_STRING, Tariff(1.5)),
    Row(Tariff | str, TARIFF, Tariff(1.5)),
    Row(Tariff | str, IN_A_STRING, TARIFF),
    Row(str, '"a\\u00e9"', "aé"),
    Row(str, '""', ""),
    Row(str, TARIFF, TARIFF),
    Row(str, "[1, 2]", "[1, 2]"),
    Row(str, "12.50", "12.50"),
    Row(str, "null", "null"),
    Row(str | None, '"a"', "a"),
    Row(str | None, TARIFF, TARIFF),
    Row(str | None, "null", None),
    Row(bytes, '"a,b;é"', "a,b;é".encode()),
    Row(bytes, TARIFF, TARIFF.encode()),
    Row(bytes | None, '"a"', b"a"),
    Row(bytes | None, "null", None),
    Row(Raw, '{"b": 1, "a": 1e400}', Raw(b'{"b": 1, "a": 1e400}')),
    Row(Raw, IN_A_STRING, Raw(IN_A_STRING.encode())),
    Row(Raw | None, "null", Raw(b"null")),
    Row(Raw | None, "[ 1 ]", Raw(b"[ 1 ]")),
    Row(Any, TARIFF, {"price": 1.5}),
    Row(Any, IN_A_STRING, TARIFF),
    Row(Any, "null", None),
    Row(Any, "123456789012345678901234567890", 123456789012345678901234567890),
    Row(dict, '{"PnCEnabled":null}', {"PnCEnabled": None}),
    Row(dict[str, Any], r'"{\"kWh\":[1]}"', {"kWh": [1]}),
    Row(dict[str, int], '{"a":1}', {"a": 1}),
    Row(int, "5", 5),
    Row(int, '"5"', 5),
    Row(int | str, '"5"', "5"),
    Row(bool, '"true"', True),
    Row(Literal["on", "off"], '"on"', "on"),
    Row(Literal[1, 2], "2", 2),
    Row(Literal[1, 2], '"2"', 2),
    Row(Colour, '"red"', Colour.RED),
    Row(Level, "1", Level.LOW),
    Row(Level, '"1"', Level.LOW),
    Row(datetime, '"2026-01-02T03:04:05Z"', datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    Row(Annotated[str, Meta(max_length=3)], '"abc"', "abc"),
    Row(Annotated[int, Meta(ge=1)], '"7"', 7),
    Row(Lenient[Tariff], '{"price":"1.5"}', Tariff(1.5)),
    Row(Lenient[Tariff], r'"{\"price\":\"1.5\"}"', Tariff(1.5)),
    Row(LENIENT[Tariff | None], '{"price":"1.5"}', Tariff(1.5)),
    Row(LENIENT[Tariff | None], '""', None),
    Row(Lenient[int], '"33.0"', 33),
    Row(Lenient[bool], "1", True),
    Row(LENIENT[list[Annotated[int, Meta(ge=1)]]], '["7"]', [7]),
    Row(LENIENT[Annotated[list[int], Meta(max_length=1)]], '["7"]', [7]),
    Row(Lenient[str], '"33"', "33"),
]


def compiled(data_type: Any, default: Any = inspect.Parameter.empty) -> Any:
    def handler(call: Call, data: Any = default) -> Any: ...

    handler.__annotations__["data"] = data_type
    if default is inspect.Parameter.empty:
        handler.__defaults__ = None
    return compile_handler(handler, 1.0)


def read(data_type: Any, json: str | None, default: Any = inspect.Parameter.empty) -> Any:
    return compiled(data_type, default).read_data(UNSET if json is None else Raw(json.encode()))


@pytest.mark.parametrize("row", FITS, ids=lambda row: f"{row.data_type}-{row.json}")
def test_data_is_read_as_the_annotation_says(row: Row) -> None:
    value = read(row.data_type, row.json)
    if isinstance(row.value, Raw):
        value, expected = bytes(value), bytes(row.value)
        assert value == expected
    else:
        assert value == row.value
        assert type(value) is type(row.value)


@pytest.mark.parametrize(
    ("data_type", "json", "sentence"),
    [
        (Tariff, "{}", "data.price: required field is missing"),
        (Tariff, r'"{\"price\":\"x\"}"', "data.price: expected a number, got a string"),
        (Tariff, '"not json"', "data: not valid JSON"),
        (Tariff, '""', "data: not valid JSON"),
        (Tariff, "null", "data: expected "),
        (list[Tariff], "[{}]", "data[0].price: required field is missing"),
        (dict[str, int], '{"a":"x"}', "data[...]: expected an integer, got a string"),
        (Literal["on"], '"ON"', "data: unknown value 'ON'"),
        (Colour, '"blue"', "data: unknown value 'blue'"),
        (datetime, '"yesterday"', "data: invalid RFC3339"),
        (
            Annotated[str, Meta(max_length=3)],
            '"abcd"',
            "data: expected a string of at most 3 characters",
        ),
        (Annotated[int, Meta(ge=1)], "0", "data: expected `int` >= 1"),
        (Failing, '{"value":-1}', "data: below zero"),
        (Lenient[Tariff], '{"price":"1,5"}', "data.price: expected a number, got a string"),
        (Lenient[Tariff], '{"price":1,"currency":2}', "data.currency: expected a string, got an"),
        (LENIENT[Annotated[int, Meta(ge=1)]], '"0"', "data: expected `int` >= 1"),
        (Any, "[" * 100_000 + "]" * 100_000, "data: nested too deeply"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_path_of_the_fault(
    data_type: Any, json: str, sentence: str
) -> None:
    with pytest.raises(InvalidData) as caught:
        read(data_type, json)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("data_type", [str, bytes, Any, Tariff])
def test_invalid_utf_8_is_refused(data_type: Any) -> None:
    reader = data_reader(data_type)
    with pytest.raises(InvalidData):
        reader(Raw(b'{"currency":"\xff","price":1}'))
    with pytest.raises(InvalidData):
        reader(Raw(b'"\xff"'))


@pytest.mark.parametrize(
    "data_type", [Tariff, str, bytes, Raw, dict, int, list[Tariff], Tariff | str, Colour]
)
def test_absent_data_is_refused_where_the_type_takes_no_none(data_type: Any) -> None:
    with pytest.raises(InvalidData, match="data: required and missing"):
        read(data_type, None)


@pytest.mark.parametrize(
    "data_type",
    [
        Any,
        Tariff | None,
        str | None,
        bytes | None,
        Raw | None,
        int | str | None,
        list[Tariff] | None,
    ],
)
def test_absent_data_is_none_where_the_type_takes_that(data_type: Any) -> None:
    assert read(data_type, None) is None


@pytest.mark.parametrize("data_type", [Tariff, str, bytes, Raw, Any, Tariff | None, dict])
def test_absent_data_is_the_default_of_the_parameter(data_type: Any) -> None:
    assert read(data_type, None, "the default") == "the default"


def test_a_default_does_not_stand_in_for_data_that_does_not_fit() -> None:
    with pytest.raises(InvalidData):
        read(Tariff, "{}", Tariff(1))


def test_raw_data_is_a_copy_that_does_not_keep_the_payload() -> None:
    payload = bytes(bytearray(b'{"data":[1,2]}'))
    references = sys.getrefcount(payload)
    view = msgspec.json.decode(payload, type=dict[str, Raw])["data"]
    value = data_reader(Raw)(view)
    del view
    assert bytes(value) == b"[1,2]"
    assert sys.getrefcount(payload) == references
