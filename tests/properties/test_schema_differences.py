"""No value that one schema takes and the other does not goes without a difference that says so."""

from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.schema.compare import differences

NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(-2, 2)
TEXTS = st.text("xy", max_size=3)
SCALARS = st.none() | st.booleans() | NUMBERS | st.just(0.5) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def keyword(kind: str, *names: str) -> st.SearchStrategy[dict[str, Any]]:
    """A schema of one type, with bounds."""
    bounds = st.fixed_dictionaries({}, optional={name: st.integers(0, 3) for name in names})
    return bounds.map(lambda found: {"type": kind, **found})


def things(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    rest = st.sampled_from([{}, {"additionalProperties": False}])
    return st.builds(
        lambda properties, required, rest: {
            "type": "object",
            "properties": properties,
            "required": sorted(required & properties.keys()),
            **rest,
        },
        st.dictionaries(NAMES, inner, max_size=3),
        st.sets(NAMES),
        rest,
    )


BOUNDED = (
    keyword("integer", "minimum", "maximum"),
    keyword("string", "minLength", "maxLength"),
    st.lists(st.sampled_from("xyz"), min_size=1, max_size=3, unique=True).map(
        lambda them: {"enum": them}
    ),
)
LEAVES: st.SearchStrategy[Any] = (
    st.just({})
    | st.sampled_from([{"type": kind} for kind in ("null", "boolean", "number", "string")])
    | st.one_of(*BOUNDED)
    | st.lists(SCALARS, min_size=1, max_size=3, unique_by=repr).map(lambda them: {"enum": them})
    | SCALARS.map(lambda value: {"const": value})
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        things(inner)
        | inner.map(lambda items: {"type": "array", "items": items})
        | st.lists(inner, min_size=2, max_size=3).map(lambda options: {"anyOf": options})
    ),
    max_leaves=5,
)


def two_things(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Two objects whose fields are mostly alike."""
    fields = st.dictionaries(NAMES, inner, max_size=3)
    sides = st.tuples(things(st.nothing()), st.sets(NAMES), st.sets(NAMES, max_size=1))
    return st.builds(
        lambda pairs, *sides: tuple(
            thing
            | {
                "properties": {
                    name: pair[number] for name, pair in pairs.items() if name not in gone
                },
                "required": sorted(required & pairs.keys() - gone),
            }
            for number, (thing, required, gone) in enumerate(sides)
        ),
        fields,
        sides,
        sides,
    )


PAIRS = st.recursive(
    st.tuples(LEAVES, LEAVES)
    | LEAVES.map(lambda schema: (schema, schema))
    | st.one_of(*(st.tuples(each, each) for each in BOUNDED)),
    lambda inner: (
        two_things(inner)
        | inner.map(lambda pair: tuple({"type": "array", "items": each} for each in pair))
        | st.lists(inner, min_size=2, max_size=3).map(
            lambda pairs: tuple({"anyOf": list(options)} for options in zip(*pairs, strict=True))
        )
    ),
    max_leaves=5,
)
"""An older schema and a newer one, which have much in common."""


def closed(schema: Any) -> Any:
    """The schema without fields that it does not know: nobody sends what he knows nothing of."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        key: {name: closed(each) for name, each in value.items()}
        if key == "properties"
        else value
        if key in {"enum", "const"}
        else closed(value)
        for key, value in schema.items()
    }
    if plain.get("type") == "object":
        plain["additionalProperties"] = False
    return plain


def takes(schema: Any, value: Any) -> bool:
    return bool(jsonschema.Draft7Validator(schema).is_valid(value))


def taken_by(schema: Any) -> st.SearchStrategy[Any]:
    """Values that a schema takes, most of them."""
    match schema:
        case {"anyOf": options}:
            return st.one_of(*map(taken_by, options))
        case {"enum": values}:
            return st.sampled_from(values)
        case {"const": value}:
            return st.just(value)
        case {"type": "object", "properties": properties, "required": required}:
            fields = {name: taken_by(each) for name, each in properties.items()}
            needed = {name: fields.get(name, VALUES) for name in required}
            rest = {name: each for name, each in fields.items() if name not in needed}
            return st.fixed_dictionaries(needed, optional=rest)
        case {"type": "array", "items": items}:
            return st.lists(taken_by(items), max_size=3)
        case {"type": "integer"}:
            return st.integers(schema.get("minimum", -2), max(3, schema.get("maximum", 4)))
        case {"type": "string"}:
            return st.text("xy", min_size=schema.get("minLength", 0), max_size=5)
        case {"type": kind}:
            return {
                "null": st.none(),
                "boolean": st.booleans(),
                "number": NUMBERS | st.just(0.5),
            }[kind]
    return VALUES


@settings(max_examples=500)  # most pairs and values have nothing to tell
@given(PAIRS | st.tuples(SCHEMAS, SCHEMAS), st.data())
def test_what_is_refused_or_new_is_told(schemas: tuple[Any, Any], data: st.DataObject) -> None:
    old, new = schemas
    found = differences(old, new, {}, {})
    value = data.draw(taken_by(old))
    if takes(closed(old), value) and not takes(new, value):
        assert any(each.narrower for each in found), value
    value = data.draw(taken_by(new))
    if takes(closed(new), value) and not takes(old, value):
        assert any(each.wider for each in found), value


@given(SCHEMAS)
def test_a_schema_does_not_differ_from_itself(schema: Any) -> None:
    assert differences(schema, schema, {}, {}) == []
