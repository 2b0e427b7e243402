"""Two JSON Schemas → how the second differs, and whether it takes less or more than the first.

Descriptions, titles and defaults are for people; they are no differences. Neither is the name of a
component: what it holds is compared, once, wherever it stands first.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from bridge.schema.types import ALL_TYPES, Schema, json_types, type_of_value

_LOWER: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "minLength": "at least {} characters",
    "minItems": "at least {} items",
    "minProperties": "at least {} fields",
}
_UPPER: Final = {
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} fields",
}
_AS_IT_IS: Final = (
    "pattern",
    "format",
    "multipleOf",
    "uniqueItems",
    "contentEncoding",
    "patternProperties",
    "propertyNames",
    "not",
)
"""Keywords of which nothing is known but whether they are the same."""

_WORDS: Final = frozenset({"title", "description", "default", "examples"})
"""Keywords for people."""

_NOTHING: Final[Schema] = {"not": {}}
"""The schema that takes no value."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not the same."""

    path: str
    """Where, such as ``data.connectorId``; empty: of the whole value."""
    text: str
    """What, as the end of a sentence."""
    narrower: bool
    """Whether values that were taken are refused now."""
    wider: bool
    """Whether values that were not taken are taken now: who reads them may not expect them."""


def differences(
    old: Any, new: Any, old_root: Mapping[str, Any], new_root: Mapping[str, Any], path: str = ""
) -> list[Difference]:
    """How `new` differs from `old`. The roots are the documents that references are found in."""
    return list(_Comparison(old_root, new_root, set()).compare(old, new, path))


class _Comparison:
    def __init__(
        self,
        old_root: Mapping[str, Any],
        new_root: Mapping[str, Any],
        compared: set[tuple[Any, Any]],
    ) -> None:
        self._old_root = old_root
        self._new_root = new_root
        self._compared = compared
        """The pairs of components that have been compared, and all that are being compared: a type
        may have itself within it, and stand in many places."""

    def compare(self, old: Any, new: Any, path: str) -> Iterator[Difference]:
        """Every difference, the outer ones first."""
        pair = None
        if _is_reference(old) or _is_reference(new):
            pair = (_name(old), _name(new))
            if pair in self._compared:
                return
            self._compared.add(pair)
        yield from self.compare_resolved(
            resolved(old, self._old_root), resolved(new, self._new_root), path
        )
        if pair is not None and not (_is_reference(old) and _is_reference(new)):
            self._compared.discard(pair)  # in another place, it is another difference

    def _tried(self, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        """The differences, for whoever may not want them: found as far as they are taken.

        Options have options within them, so that to find them all would take exponential time.
        """
        trial = _Comparison(self._old_root, self._new_root, set(self._compared))
        return trial.compare(old, new, path)

    def compare_resolved(self, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        """As :meth:`compare`, for schemas that are no references themselves."""
        if "anyOf" in old or "anyOf" in new:
            yield from self._options(_options(old), _options(new), path)
            return
        before, after = _types(old, self._old_root), _types(new, self._new_root)
        was_any, is_any = not old.keys() - _WORDS, not new.keys() - _WORDS
        if was_any and is_any:
            return
        if was_any or is_any or (before and after and not before & after):
            text = f"{_words(old, before)} before, {_words(new, after)} now"
            yield Difference(path, text, narrower=not is_any, wider=not was_any)
            return
        yield from self._values_or_types(old, new, path)
        if _values(old) is not None or _values(new) is not None:
            return
        yield from _bounds(old, new, path)
        yield from _as_it_is(old, new, path)
        if "contentSchema" in old and "contentSchema" in new:
            yield from self.compare(old["contentSchema"], new["contentSchema"], path)
        elif "contentSchema" in new:
            text = f"only the JSON text of {_words_of(new['contentSchema'], self._new_root)} now"
            yield Difference(path, text, narrower=True, wider=False)
        elif "contentSchema" in old:
            text = (
                f"no longer only the JSON text of {_words_of(old['contentSchema'], self._old_root)}"
            )
            yield Difference(path, text, narrower=False, wider=True)
        if "object" in before & after:
            yield from self._fields(old, new, path)
        if "array" in before & after:
            yield from self._items(old, new, path)

    def _options(self, old: list[Schema], new: list[Schema], path: str) -> Iterator[Difference]:
        """Each option of one, beside that option of the other which is most like it."""
        marks_old, marks_new = _marks(old, self._old_root), _marks(new, self._new_root)
        told: list[Difference] = []
        taken: list[Schema] = []
        for option, mark in zip(old, marks_old, strict=True):
            alike = [other for other, its in zip(new, marks_new, strict=True) if its == mark]
            if alike:
                taken.append(self._best(option, alike, path))
                told += self.compare(option, taken[-1], path)
            elif all(any(d.narrower for d in self._tried(option, other, path)) for other in new):
                text = f"no longer {_words_of(option, self._old_root)}"
                told.append(Difference(path, text, narrower=True, wider=False))
        for option in new:
            if not any(option is each for each in taken) and all(
                any(d.wider for d in self._tried(other, option, path)) for other in old
            ):
                text = f"also {_words_of(option, self._new_root)} now"
                told.append(Difference(path, text, narrower=False, wider=True))
        yield from dict.fromkeys(told)

    def _best(self, option: Schema, alike: list[Schema], path: str) -> Schema:
        """That of several which is the same, or else takes all that `option` takes."""
        if len(alike) == 1:
            return alike[0]
        tried = [([*self._tried(option, other, path)], other) for other in alike]
        return min(tried, key=lambda each: (any(d.narrower for d in each[0]), len(each[0])))[1]

    def _values_or_types(self, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        before, after = _values(old), _values(new)
        if before is not None and after is not None:
            gone = [value for value in before if value not in after]
            added = [value for value in after if value not in before]
            if gone:
                yield Difference(path, f"no longer {_listed(gone)}", narrower=True, wider=False)
            if added:
                yield Difference(path, f"also {_listed(added)} now", narrower=False, wider=True)
            return
        if after is not None:
            wider = any(not _fits(value, old) for value in after)
            yield Difference(path, f"only {_listed(after)} now", narrower=True, wider=wider)
            return
        if before is not None:
            narrower = any(not _fits(value, new) for value in before)
            yield Difference(path, f"no longer only {_listed(before)}", narrower, wider=True)
            return
        were, are = _named_types(old), _named_types(new)
        gone_types, added_types = were - are, are - were
        if gone_types or added_types:
            text = f"{_words(old, were)} before, {_words(new, are)} now"
            yield Difference(path, text, bool(gone_types), bool(added_types))

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, needs = set(old.get("required", ())), set(new.get("required", ()))
        rest_before = old.get("additionalProperties", True)
        rest_after = new.get("additionalProperties", True)
        for name in dict.fromkeys((*before, *after, *sorted(needed | needs))):
            where = f"{path}.{name}" if path else name
            if name in before and name not in after and name not in needs:
                yield Difference(where, "gone", rest_after is False, wider=True)
            elif name in after and name not in before and name not in needed:
                if name in needs:
                    yield Difference(where, "new, and required", True, rest_before is False)
                else:
                    yield Difference(where, "new", narrower=False, wider=rest_before is False)
            else:
                yield from self.compare(before.get(name, {}), after.get(name, {}), where)
                if name in needs - needed:
                    yield Difference(where, "required now", narrower=True, wider=False)
                elif name in needed - needs:
                    yield Difference(where, "no longer always there", narrower=False, wider=True)
        where = f"{path}.*" if path else "*"
        if rest_before is not False and rest_after is not False:
            yield from self.compare(rest_before, rest_after, where)
        elif rest_before is not rest_after:
            opened = rest_before is False
            text = "other fields allowed now" if opened else "no other fields any more"
            yield Difference(where, text, not opened, opened)

    def _items(self, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        before, after = old.get("items", True), new.get("items", True)
        if isinstance(before, list) and isinstance(after, list):
            for number, (one, other) in enumerate(zip(before, after, strict=False)):
                yield from self.compare(one, other, f"{path}[{number}]")
            for number in range(len(after), len(before)):
                refused = new.get("additionalItems") is False
                yield Difference(f"{path}[{number}]", "gone", refused, wider=True)
            return  # what is new and required, the bounds say
        if isinstance(before, list) or isinstance(after, list):
            for number, one in enumerate(before if isinstance(before, list) else after):
                pair = (one, after) if isinstance(before, list) else (before, one)
                yield from self.compare(*pair, f"{path}[{number}]")
            return
        yield from self.compare(before, after, f"{path}[]")


def resolved(schema: Any, root: Mapping[str, Any]) -> Schema:
    """The schema that a reference means, and one of several joined ones with all they say."""
    for _ in range(100):
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            return _NOTHING
        if "$ref" in schema:
            schema = _found(schema["$ref"], root)
        elif "allOf" in schema:
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            joined: Schema = {}
            for part in schema["allOf"]:
                joined |= resolved(part, root)
            schema = joined | rest
        else:
            return schema
    return {}


def _is_reference(schema: Any) -> bool:
    return isinstance(schema, dict) and "$ref" in schema


def _name(schema: Any) -> Any:
    """What names a schema: its reference, or all that it says."""
    return schema["$ref"] if _is_reference(schema) else _json(schema)


def _found(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            return True
        found = found[name]
    return found


def _options(schema: Schema) -> list[Schema]:
    options = schema.get("anyOf")
    return options if isinstance(options, list) else [schema]


def _types(schema: Schema, root: Mapping[str, Any]) -> frozenset[str]:
    components = root.get("components", {}).get("schemas", {})
    return json_types(schema, components)


def _named_types(schema: Schema) -> frozenset[str]:
    """As :func:`json_types`, where a number is an ``integer``, or that and ``fraction``."""
    named = schema.get("type", sorted(ALL_TYPES))
    found = frozenset(named if isinstance(named, list) else [named])
    return found - {"number"} | {"integer", "fraction"} if "number" in found else found


def _marks(options: list[Schema], root: Mapping[str, Any]) -> list[Any]:
    """What tells the options of one union apart: their types or, where that is not enough, the
    tags of classes, or else their names.
    """
    plain = [resolved(option, root) for option in options]
    types = [_types(each, root) for each in plain]
    return [
        kind if types.count(kind) == 1 else (kind, _tags(each) or each.get("title"))
        for each, kind in zip(plain, types, strict=True)
    ]


def _tags(schema: Schema) -> str:
    """The fields that have one value, as a text."""
    properties = schema.get("properties", {})
    tags = {
        name: value["const"]
        for name, value in properties.items()
        if isinstance(value, dict) and "const" in value
    }
    return _json(tags) if tags else ""


def _values(schema: Schema) -> list[Any] | None:
    """The values that a schema takes, as JSON texts; None: it does not list them."""
    if "const" in schema:
        return [_json(schema["const"])]
    values = schema.get("enum")
    return [_json(value) for value in values] if isinstance(values, list) else None


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _listed(values: list[str]) -> str:
    more = f" and {len(values) - 10} more" if len(values) > 10 else ""
    return ", ".join(values[:10]) + more


def _fits(text: str, schema: Schema) -> bool:
    """Whether a value that is listed keeps to the types and bounds of a schema."""
    value = orjson.loads(text)
    kind = type_of_value(value)
    if kind == "number":
        kind = "integer" if float(value).is_integer() else "fraction"
    if kind not in _named_types(schema):
        return False
    if kind not in _BOUNDED:
        return True
    lower, upper = _BOUNDED[kind]
    size = value if kind in {"integer", "fraction"} else len(value)
    return bool(schema.get(lower, size) <= size <= schema.get(upper, size))


_BOUNDED: Final = {
    "integer": ("minimum", "maximum"),
    "fraction": ("minimum", "maximum"),
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
}
"""The bounds of a listed value."""


def _words_of(option: Any, root: Mapping[str, Any]) -> str:
    plain = resolved(option, root)
    return _words(plain, _types(plain, root))


def _words(schema: Schema, types: frozenset[str]) -> str:
    """A type in words."""
    values = _values(schema)
    if values is not None:
        return _listed(values)
    if "type" in schema:
        types = _named_types(schema)
    if "fraction" in types:
        types = types - {"integer", "fraction"} | {"number"}
    if types >= ALL_TYPES:
        return "any value"
    if types == {"object"}:
        return " ".join(filter(None, ("an object", schema.get("title"), _tags(schema))))
    return " or ".join(sorted(types)) or "nothing"


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[Difference]:
    for names, upper in ((_LOWER, False), (_UPPER, True)):
        for name, words in names.items():
            before, after = _bound(old, name), _bound(new, name)
            if before == after:
                continue
            was, now = (
                "no bound" if bound is None else words.format(_json(bound))
                for bound in (before, after)
            )
            tighter = after is not None and (
                before is None or (after < before if upper else after > before)
            )
            yield Difference(path, f"{now} now, {was} before", tighter, not tighter)


def _bound(schema: Schema, name: str) -> float | None:
    value = schema.get(name)
    if type_of_value(value) != "number":
        return None
    return None if value == 0 and name in {"minLength", "minItems", "minProperties"} else value


def _as_it_is(old: Schema, new: Schema, path: str) -> Iterator[Difference]:
    for name in _AS_IT_IS:
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        was = "none" if before is None else _json(before)
        now = "none" if after is None else _json(after)
        yield Difference(
            path, f"{name} {now} now, {was} before", after is not None, before is not None
        )
