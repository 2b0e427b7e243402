"""Python types → JSON Schemas, as AsyncAPI takes them (draft 7).

The schema of a class is a component with a name, to which others refer. What msgspec has no schema
for, a protocol for one, may be any JSON.
"""

import typing
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Final

import msgspec

from bridge.schema.docstrings import field_docstrings

Schema = dict[str, Any]

PREFIX: Final = "#/components/schemas/"
"""Where the document keeps the components."""

ALL_TYPES: Final = frozenset({"null", "boolean", "number", "string", "array", "object"})
"""The JSON types; an integer is a number."""


class SameName(ValueError):
    """Two types of one module have the same name."""


def schemas(types: Sequence[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """The schema of each type, and by name the components that these refer to.

    Raises :class:`SameName`.
    """
    options = [_options(each) for each in types]
    leaves = [leaf for each in options for leaf in each]
    classes = list({id(each.cls): each for leaf in leaves for each in _classes(leaf)}.values())
    try:
        found, components = msgspec.json.schema_components(
            [*leaves, *(each.cls for each in classes)],
            schema_hook=lambda _: {},
            ref_template=PREFIX + "{name}",
        )
    except KeyError as error:  # so msgspec fails, where it finds no names to tell two types apart
        raise SameName(f"there are two types {error.args[0]!r}: give one another name") from error
    for each, reference in zip(classes, found[len(leaves) :], strict=True):
        _describe_fields(each, components.get(reference.get("$ref", "").removeprefix(PREFIX), {}))
    # Defaults are what msgspec would write: a tuple is a list.
    found, components = msgspec.json.decode(msgspec.json.encode((found, components)))
    plain = map(draft_7, found)
    joined = [[next(plain) for _ in each] for each in options]
    return [_any_of(each) for each in joined], {
        name: _titled(name, draft_7(component)) for name, component in components.items()
    }


def _titled(name: str, component: Schema) -> Schema:
    """The component with titles, for generators of code name what they make by them."""
    component["title"] = name
    for key, value in component.get("properties", {}).items():
        if "allOf" in value or len(value.get("enum", ())) > 1:
            value["title"] = f"{name}{key[:1].upper()}{key[1:]}"
    return component


def _options(kind: Any) -> list[Any]:
    """A type; of a union of which msgspec knows nothing, its parts; of any other such type, Any.

    Two Structs without tags are such a union: msgspec could not tell them apart to decode.
    """
    try:
        msgspec.inspect.type_info(kind)
        msgspec.json.schema(kind, schema_hook=lambda _: {})
    except Exception:  # noqa: BLE001 - it runs code of a vendor's type, and says nothing then
        if typing.get_origin(kind) in {typing.Union, UnionType}:
            return [leaf for part in typing.get_args(kind) for leaf in _options(part)]
        return [Any]
    return [kind]


def _any_of(options: list[Schema]) -> Schema:
    return options[0] if len(options) == 1 else {"anyOf": options}


def _classes(kind: Any) -> Iterator[Any]:
    """What msgspec tells of every class with fields within a type."""
    seen: set[int] = set()
    waiting: list[Any] = [msgspec.inspect.type_info(kind)]
    while waiting:
        shape = waiting.pop()
        if id(shape) in seen or not isinstance(shape, msgspec.inspect.Type | msgspec.inspect.Field):
            continue
        seen.add(id(shape))
        if hasattr(shape, "fields"):
            yield shape
        for name in shape.__struct_fields__:
            value = getattr(shape, name)
            waiting.extend(value if isinstance(value, tuple) else (value,))


def _describe_fields(shape: Any, component: Schema) -> None:
    written = field_docstrings(typing.get_origin(shape.cls) or shape.cls)
    properties = component.get("properties", {})
    for field in shape.fields:
        if field.name in written and field.encode_name in properties:
            properties[field.encode_name].setdefault("description", written[field.name])


def draft_7(schema: Any) -> Any:
    """A schema of msgspec's, which is of draft 2020-12, as one of draft 7 that means the same."""
    if isinstance(schema, list):
        return [draft_7(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {}
    for key, value in schema.items():
        match key:
            case "discriminator":  # AsyncAPI means another thing by it
                continue
            case "default" | "enum" | "const" | "examples":  # no schemas
                plain[key] = value
            case "properties":
                plain[key] = {name: draft_7(each) for name, each in value.items()}
            case _:
                plain[key] = draft_7(value)
    if isinstance(plain.get("prefixItems"), list):
        plain["additionalItems"] = plain.pop("items", True)
        plain["items"] = plain.pop("prefixItems")
    values = plain.get("enum")
    if isinstance(values, list):
        if len(values) == 1:
            plain["const"] = plain.pop("enum")[0]
        if "type" not in plain and all(isinstance(value, str) for value in values):
            plain["type"] = "string"
    if "$ref" in plain and len(plain) > 1:  # draft 7 ignores what stands beside it
        plain = {"allOf": [{"$ref": plain.pop("$ref")}], **plain}
    return plain


def json_types(schema: Any, components: Mapping[str, Schema]) -> frozenset[str]:
    """The JSON types that a schema takes; of integers, ``number``."""
    return _json_types(schema, components, frozenset())


def _json_types(
    schema: Any, components: Mapping[str, Schema], seen: frozenset[str]
) -> frozenset[str]:
    if not isinstance(schema, dict):
        return ALL_TYPES if schema else frozenset()
    found: frozenset[str] = ALL_TYPES
    reference = schema.get("$ref")
    if reference is not None:
        name = reference.removeprefix(PREFIX)
        if name in seen or name not in components:
            return ALL_TYPES
        return _json_types(components[name], components, seen | {name})
    for part in schema.get("allOf", ()):
        found &= _json_types(part, components, seen)
    options = schema.get("anyOf", schema.get("oneOf"))
    if options is not None:
        found &= frozenset().union(*(_json_types(each, components, seen) for each in options))
    if "type" in schema:
        named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        found &= frozenset("number" if each == "integer" else each for each in named)
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is not None:
        found &= frozenset(map(type_of_value, values))
    return found


def type_of_value(value: Any) -> str:
    """The JSON type of a value; of an integer, ``number``."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def without_null(schema: Schema) -> Schema:
    """The schema without the option null, where it stands at its top."""
    options = schema.get("anyOf")
    if not isinstance(options, list):
        return schema
    left = [each for each in options if each != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
    return left[0] if len(left) == 1 and not rest else {**rest, "anyOf": left}


def as_text(schema: Schema, components: Mapping[str, Schema]) -> Schema:
    """The schema of `data` in OCPP 1.6, where it is always a string.

    A string is itself, and any other value is its JSON text.
    """
    types = json_types(schema, components) - {"null"}
    if types == {"string"}:
        return without_null(schema)
    if "string" in types:
        text: Schema = {"type": "string"}
        text["description"] = "A string as it is, and any other value as its JSON text."
        return text
    return {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": without_null(schema),
    }
