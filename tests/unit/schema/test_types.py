"""Python types as JSON Schemas of draft 7, and as the text that OCPP 1.6 has of them."""

import dataclasses
import datetime as dt
from typing import Any, Generic, Literal, Protocol, TypeVar

import jsonschema
import msgspec
import pytest

from bridge.schema.types import PREFIX, SameName, Schema, as_text, json_types, schemas

T = TypeVar("T")


class Price(msgspec.Struct, tag="price"):
    """What it costs."""

    amount: float
    """In euros."""
    before: "Price | None" = None


class Free(msgspec.Struct, tag="free"):
    until: str


class One(msgspec.Struct):
    one: int


class Two(msgspec.Struct):
    two: int


class Words(msgspec.Struct):
    """Its fields are called like keywords of JSON Schema."""

    default: list[Price]
    enum: Literal["a", "b"]
    properties: Price | None = None


class Anything(Protocol):
    """Of which msgspec knows nothing."""


def the(kind: Any) -> tuple[Schema, dict[str, Schema]]:
    [schema], components = schemas([kind])
    return schema, components


def test_a_class_is_a_component_with_what_is_written_about_it_and_its_fields() -> None:
    schema, components = the(Price)
    assert schema == {"$ref": f"{PREFIX}Price"}
    assert components["Price"] == {
        "title": "Price",
        "description": "What it costs.",
        "type": "object",
        "properties": {
            "type": {"const": "price", "type": "string"},
            "amount": {"type": "number", "description": "In euros."},
            "before": {"anyOf": [{"$ref": f"{PREFIX}Price"}, {"type": "null"}], "default": None},
        },
        "required": ["type", "amount"],
    }


@dataclasses.dataclass
class Point:
    x: int
    """From the left."""


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    """All of them."""


@pytest.mark.parametrize(
    ("kind", "name", "field", "text"),
    [
        (Point, "Point", "x", "From the left."),
        (dict[str, Page[Point]], "Page_Point_", "items", "All of them."),
    ],
)
def test_fields_of_every_kind_of_class_are_described(
    kind: Any, name: str, field: str, text: str
) -> None:
    assert the(kind)[1][name]["properties"][field]["description"] == text


def test_fields_that_are_called_like_keywords_keep_their_schemas() -> None:
    properties = the(Words)[1]["Words"]["properties"]
    assert properties["default"] == {"type": "array", "items": {"$ref": f"{PREFIX}Price"}}
    assert properties["enum"] == {"enum": ["a", "b"], "type": "string", "title": "WordsEnum"}
    assert properties["properties"]["anyOf"][0] == {"$ref": f"{PREFIX}Price"}


def test_classes_of_the_same_name_are_two_components() -> None:
    other = msgspec.defstruct("Price", [("other", int)], module="other")
    found, components = schemas([Price, other])
    assert len({each["$ref"] for each in found}) == len(components) == 2
    assert {each["title"] for each in components.values()} == set(components)


def test_classes_that_nothing_tells_apart_are_refused() -> None:
    twins = [msgspec.defstruct("Twin", [("field", kind)]) for kind in (int, str)]
    with pytest.raises(SameName, match=r"two types <class .*Twin'>: give one another name"):
        schemas(twins)


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (Any, {}),
        (msgspec.Raw, {}),
        (Anything, {}),
        (Price | Free, {"anyOf": [{"$ref": f"{PREFIX}Price"}, {"$ref": f"{PREFIX}Free"}]}),
        (One | Two, {"anyOf": [{"$ref": f"{PREFIX}One"}, {"$ref": f"{PREFIX}Two"}]}),
        (
            tuple[int, str],
            {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": [{"type": "integer"}, {"type": "string"}],
                "additionalItems": False,
            },
        ),
    ],
)
def test_every_type_has_a_schema(kind: Any, schema: Schema) -> None:
    assert the(kind)[0] == schema


@pytest.mark.parametrize("kind", [Price, Price | Free, Words, tuple[int, str], dict[str, Price]])
def test_the_schemas_are_of_draft_7(kind: Any) -> None:
    schema, components = the(kind)
    for each in (schema, *components.values()):
        jsonschema.Draft7Validator.check_schema(each)


TEXT_OF_PRICE = {
    "type": "string",
    "contentMediaType": "application/json",
    "contentSchema": {"$ref": f"{PREFIX}Price"},
}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Price, TEXT_OF_PRICE),
        (Price | None, TEXT_OF_PRICE),
        (int, TEXT_OF_PRICE | {"contentSchema": {"type": "integer"}}),
        (str, {"type": "string"}),
        (str | None, {"type": "string"}),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}),
        (dt.timedelta, {"type": "string", "format": "duration"}),
    ],
)
def test_in_ocpp_1_6_a_string_is_itself_and_all_else_its_json_text(kind: Any, text: Schema) -> None:
    assert as_text(*the(kind)) == text


@pytest.mark.parametrize("kind", [Any, str | int, msgspec.Raw])
def test_what_may_be_a_string_or_something_else_is_any_text(kind: Any) -> None:
    text = as_text(*the(kind))
    assert text.pop("description")
    assert text == {"type": "string"}


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        (Price, {"object"}),
        (Price | None, {"object", "null"}),
        (Literal[1, "a"], {"number", "string"}),
        (list[int] | bool, {"array", "boolean"}),
    ],
)
def test_the_json_types_of_a_schema_are_known(kind: Any, types: set[str]) -> None:
    assert json_types(*the(kind)) == types
