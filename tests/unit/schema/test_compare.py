"""How one JSON Schema differs from another, and whether it takes less or more."""

from typing import Any

import pytest

from bridge.schema.compare import Difference, differences

INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
STRING = {"type": "string"}
NULL = {"type": "null"}
SAME, NARROWER, WIDER, BOTH = (False, False), (True, False), (False, True), (True, True)


def thing(*required: str, rest: Any = True, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": rest,
    }


def tagged(tag: str, **properties: Any) -> dict[str, Any]:
    return thing("type", type={"const": tag, "type": "string"}, **properties)


def text_of(schema: Any) -> dict[str, Any]:
    return STRING | {"contentMediaType": "application/json", "contentSchema": schema}


TABLE = [
    # fields
    (thing(), thing("a", a=INTEGER), ("a", "new, and required", *NARROWER)),
    (thing(), thing(a=INTEGER), ("a", "new", *SAME)),
    (thing(rest=False), thing(a=INTEGER, rest=False), ("a", "new", *WIDER)),
    (thing(a=INTEGER), thing(), ("a", "gone", *WIDER)),
    (thing(a=INTEGER, rest=False), thing(rest=False), ("a", "gone", *BOTH)),
    (thing(a=INTEGER), thing("a", a=INTEGER), ("a", "required now", *NARROWER)),
    (thing("a", a=INTEGER), thing(a=INTEGER), ("a", "no longer always there", *WIDER)),
    (thing(), thing(rest=False), ("*", "no other fields any more", *NARROWER)),
    (thing(rest=False), thing(), ("*", "other fields allowed now", *WIDER)),
    (thing(rest=INTEGER), thing(rest=STRING), ("*", "integer before, string now", *BOTH)),
    (
        thing(a=thing(b=INTEGER)),
        thing(a=thing(b=STRING)),
        ("a.b", "integer before, string now", *BOTH),
    ),
    # types
    (INTEGER, NUMBER, ("", "integer before, number now", *WIDER)),
    (NUMBER, INTEGER, ("", "number before, integer now", *NARROWER)),
    ({}, STRING, ("", "any value before, string now", *NARROWER)),
    (STRING, {}, ("", "string before, any value now", *WIDER)),
    (STRING, {"type": "array"}, ("", "string before, array now", *BOTH)),
    # unions
    ({"anyOf": [INTEGER, NULL]}, INTEGER, ("", "no longer null", *NARROWER)),
    (INTEGER, {"anyOf": [INTEGER, NULL]}, ("", "also null now", *WIDER)),
    (
        {"anyOf": [INTEGER, NULL]},
        {"anyOf": [NUMBER, NULL]},
        ("", "integer before, number now", *WIDER),
    ),
    (
        {"anyOf": [tagged("x", a=INTEGER), tagged("y")]},
        {"anyOf": [tagged("x", a=STRING), tagged("y")]},
        ("a", "integer before, string now", *BOTH),
    ),
    (
        {"anyOf": [tagged("x"), tagged("y")]},
        {"anyOf": [tagged("x")]},
        ("", 'no longer an object {"type":"y"}', *NARROWER),
    ),
    # values
    ({"enum": ["a", "b"]}, {"enum": ["b"]}, ("", 'no longer "a"', *NARROWER)),
    ({"enum": ["b"]}, {"enum": ["a", "b"]}, ("", 'also "a" now', *WIDER)),
    (STRING, {"enum": ["a"]}, ("", 'only "a" now', *NARROWER)),
    ({"const": "a"}, STRING, ("", 'no longer only "a"', *WIDER)),
    ({"const": "abc"}, STRING | {"maxLength": 2}, ("", 'no longer only "abc"', *BOTH)),
    ({"enum": ["a", 1]}, STRING, ("", 'no longer only "a", 1', *BOTH)),
    # bounds
    (INTEGER, INTEGER | {"minimum": 0}, ("", "at least 0 now, no bound before", *NARROWER)),
    (
        INTEGER | {"minimum": 1},
        INTEGER | {"minimum": 0},
        ("", "at least 0 now, at least 1 before", *WIDER),
    ),
    (
        STRING | {"maxLength": 9},
        STRING | {"maxLength": 8},
        ("", "at most 8 characters now, at most 9 characters before", *NARROWER),
    ),
    (STRING | {"maxLength": 9}, STRING, ("", "no bound now, at most 9 characters before", *WIDER)),
    # keywords that are the same, or not
    (STRING, STRING | {"format": "uuid"}, ("", 'format "uuid" now, none before', *NARROWER)),
    (
        STRING | {"pattern": "a"},
        STRING | {"pattern": "b"},
        ("", 'pattern "b" now, "a" before', *BOTH),
    ),
    # lists
    (
        {"type": "array", "items": INTEGER},
        {"type": "array", "items": STRING},
        ("[]", "integer before, string now", *BOTH),
    ),
    (
        {"type": "array", "items": [INTEGER, STRING]},
        {"type": "array", "items": [INTEGER, INTEGER]},
        ("[1]", "string before, integer now", *BOTH),
    ),
    (
        {"type": "array", "items": [INTEGER, STRING]},
        {"type": "array", "items": [INTEGER]},
        ("[1]", "gone", *WIDER),
    ),
    ({"type": "array", "items": [INTEGER]}, {"type": "array", "items": INTEGER}, None),
    # what stands in a text
    (text_of(thing(a=INTEGER)), text_of(thing("a", a=INTEGER)), ("a", "required now", *NARROWER)),
    (text_of(INTEGER), text_of(STRING), ("", "integer before, string now", *BOTH)),
    (STRING, text_of(INTEGER), ("", "only the JSON text of integer now", *NARROWER)),
    (text_of(INTEGER), STRING, ("", "no longer only the JSON text of integer", *WIDER)),
]


@pytest.mark.parametrize(("old", "new", "difference"), TABLE)
def test_a_difference_says_where_what_and_which_way(old: Any, new: Any, difference: Any) -> None:
    expected = [] if difference is None else [Difference(*difference)]
    assert differences(old, new, {}, {}) == expected


SCHEMAS = [schema for old, new, _ in TABLE for schema in (old, new)]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_nothing_differs_from_itself(schema: Any) -> None:
    assert differences(schema, {**schema, "title": "T", "description": "D"}, {}, {}) == []


def test_a_component_that_has_another_name_is_the_same() -> None:
    def root(name: str) -> dict[str, Any]:
        reference = {"$ref": f"#/components/schemas/{name}"}
        node = thing("value", value=INTEGER, next={"anyOf": [reference, NULL]})
        return {"components": {"schemas": {name: node}}, "it": reference}

    old, new = root("Node"), root("Link")
    assert differences(old["it"], new["it"], old, new) == []
    new["components"]["schemas"]["Link"]["properties"]["value"] = STRING
    [found] = differences(old["it"], new["it"], old, new)
    assert found.path == "value"


def test_a_class_that_has_another_name_is_compared_where_it_stands_in_a_union() -> None:
    old, new = {"title": "Old"} | thing(a=INTEGER), {"title": "New"} | thing(a=STRING)
    [found] = differences({"anyOf": [old, NULL]}, {"anyOf": [new, NULL]}, {}, {})
    assert found == Difference("a", "integer before, string now", narrower=True, wider=True)


def test_a_reference_to_nothing_may_be_anything() -> None:
    assert differences({"$ref": "#/gone"}, {}, {}, {}) == []


def test_types_that_hold_each_other_many_times_over_are_compared_in_no_time() -> None:
    """Along every path through them, it would take as long as there are paths."""
    names = [f"T{number}" for number in range(30)]
    every = [{"$ref": f"#/components/schemas/{name}"} for name in names]

    def root(last: Any) -> dict[str, Any]:
        schemas = {
            name: tagged(name, inside={"anyOf": every}, **dict(zip(names, every, strict=True)))
            for name in names
        }
        schemas[names[-1]]["properties"]["last"] = last
        return {"components": {"schemas": schemas}}

    old, new = root(INTEGER), root(STRING)
    found = differences({"anyOf": every}, {"anyOf": every}, old, new)
    assert [each.text for each in found] == ["integer before, string now"]
    assert found[0].path.endswith("last")


def test_classes_that_hold_each_other_are_compared_in_a_moment() -> None:
    def root(prefix: str) -> dict[str, Any]:
        every = {"anyOf": [{"$ref": f"#/d/{name}"} for name in "abcdefgh"]}
        return {"d": {name: tagged(prefix + name, next=every) for name in "abcdefgh"}}

    old, new = root("old-"), root("new-")
    entry = old["d"]["a"]["properties"]["next"]
    assert any(each.narrower for each in differences(entry, entry, old, new))


def test_what_is_compared_is_known_by_what_it_says_and_not_by_where_it_lies() -> None:
    root = {"d": {"T": STRING}}
    names = [f"field-{number}" for number in range(40)]
    old, new = thing(*names), thing(*names, **{name: {"$ref": "#/d/T"} for name in names})
    assert sum(each.narrower for each in differences(old, new, root, root)) == 40


def test_a_large_bound_is_told_whole() -> None:
    old, new = INTEGER | {"maximum": 12_345_678}, INTEGER | {"maximum": 12_345_679}
    [found] = differences(old, new, {}, {})
    assert found.text == "at most 12345679 now, at most 12345678 before"
