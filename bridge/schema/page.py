"""An AsyncAPI document → one page of HTML, for whoever writes the other side. It loads nothing."""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from bridge.schema.asyncapi import FORM, MESSAGE, PART, PROPERTIES, QUEUES, VENDOR, Document
from bridge.schema.compare import resolved
from bridge.schema.envelope import Form
from bridge.schema.types import PREFIX, Schema

_LIMITS: Final = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches {}",
    "format": "{}",
    "contentEncoding": "{}",
}

_SHARED: Final = ("headers-", "properties-")
"""How the names of components begin that are told of elsewhere."""


def page(document: Document) -> str:
    """The page."""
    return "\n".join(_Page(document).lines())


class _Page:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._operations: dict[str, Mapping[str, Any]] = document["operations"]
        self._types: dict[str, Schema] = document["components"]["schemas"]

    def lines(self) -> Iterator[str]:
        info = self._document["info"]
        title = _text(info["title"])
        yield _HEAD.format(title=title, style=_STYLE)
        yield f"<h1>{title} <small>{_text(info['version'])}</small></h1>"
        for paragraph in info["description"].strip().split("\n\n"):
            yield f"<p>{_prose(paragraph)}</p>"
        yield from self._contents()
        for name, operation in self._operations.items():
            yield from self._operation(name, operation)
        yield from self._refusals()
        yield from self._around()
        if self._types:
            yield '<h2 id="types">Types</h2>'
        for name, schema in self._types.items():
            if name.startswith(_SHARED):
                continue
            yield f'<h3 id="{_type_id(name)}">{_text(name)}</h3>'
            yield from self._value(schema)
        yield "</main></html>"

    def _contents(self) -> Iterator[str]:
        yield "<nav><ul>"
        vendors = dict.fromkeys(each[VENDOR] for each in self._operations.values())
        for vendor in vendors:
            yield f"<li>{_text(vendor)}<ul>"
            for name, operation in self._operations.items():
                if operation[VENDOR] == vendor:
                    yield f'<li><a href="#{_text(name)}">{_message(operation)}</a></li>'
            yield "</ul></li>"
        yield '<li><a href="#refusals">Refusals and errors</a></li>'
        yield '<li><a href="#around">Properties and headers</a></li>'
        yield '<li><a href="#types">Types</a></li></ul></nav>'

    def _operation(self, name: str, operation: Mapping[str, Any]) -> Iterator[str]:
        channel = resolved(operation["channel"], self._document)
        exchange = channel["bindings"]["amqp"]["exchange"]["name"]
        heading = f"{_text(operation[VENDOR])}: {_message(operation)}"
        yield f'<section id="{_text(name)}"><h2>{heading}</h2>'
        for paragraph in operation.get("description", "").split("\n\n"):
            if paragraph:
                yield f"<p>{_prose(paragraph)}</p>"
        queues = ", ".join(map(_code, channel.get(QUEUES, ())))
        address = f"Exchange {_code(exchange)}, routing key {_code(channel['address'])}"
        yield f"<p>{address}{', queue ' * bool(queues)}{queues}.</p>"
        request = self._part(operation["messages"], "request")
        needed = "is required" if "data" in request["payload"]["required"] else "may be absent"
        yield f"<h3>Request <small>data {needed}</small></h3>"
        yield from self._data(request)
        yield "<h3>Answer <small>status Accepted</small></h3>"
        yield from self._data(self._part(operation["reply"]["messages"], "accepted"))
        yield "</section>"

    def _data(self, message: Mapping[str, Any]) -> Iterator[str]:
        schema = message["payload"]["properties"].get("data")
        if schema is None:
            yield "<p>No data.</p>"
            return
        if "$ref" in schema:
            yield f"<p>{self._words(schema)}</p>"
        yield from self._value(resolved(schema, self._document))

    def _part(self, references: list[Any], part: str) -> Mapping[str, Any]:
        """That message, in the form that all versions from OCPP 2.0 on have."""
        found = [resolved(each, self._document) for each in references]
        return next(
            each for each in found if each[PART] == part and each.get(FORM) in {None, Form.V2.value}
        )

    def _refusals(self) -> Iterator[str]:
        yield '<section id="refusals"><h2>Refusals and errors</h2>'
        yield "<p>Every request may be answered with one of these as well.</p>"
        for message in self._document["components"]["messages"].values():
            if message[PART] in {"refused", "call-error", "station-offline"}:
                kind = message["bindings"]["amqp"]["messageType"]
                yield f"<h3>{_text(message['title'])} <small>type {_text(kind)}</small></h3>"
                yield from self._value(message["payload"])
        yield "</section>"

    def _around(self) -> Iterator[str]:
        """Properties and headers, once for each kind of message."""
        yield '<section id="around"><h2>Properties and headers</h2>'
        told: list[Any] = []
        for operation in self._operations.values():
            to_station = operation["action"] == "send"
            for references, what in (
                (operation["messages"], "request"),
                (operation["reply"]["messages"], "reply to a request"),
            ):
                message = self._part(references, "request" if what == "request" else "accepted")
                if (to_station, what) in told:
                    continue
                told.append((to_station, what))
                whose = "to a station" if to_station else "of a station"
                yield f"<h3>A {what} {whose}</h3>"
                yield "<h4>AMQP properties</h4>"
                yield from self._value(resolved(message[PROPERTIES], self._document))
                yield "<h4>Headers</h4>"
                yield from self._value(resolved(message["headers"], self._document))
        yield "</section>"

    # ---- types ----

    def _value(self, schema: Schema) -> Iterator[str]:
        """A schema: what it is, and a table of its fields."""
        if schema.get("description"):
            yield f"<p>{_prose(schema['description'])}</p>"
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            yield f"<p>{self._words(schema)}</p>"
            return
        required = schema.get("required", ())
        yield "<table><thead><tr><th>field</th><th>type</th><th></th></tr></thead><tbody>"
        for name, field in properties.items():
            mark = "" if name in required else " <small>optional</small>"
            yield f"<tr><td>{_code(name)}{mark}</td><td>{self._words(field)}</td>"
            said = field.get("description", "") if isinstance(field, dict) else ""
            yield f"<td>{_prose(said)}</td></tr>"
        yield "</tbody></table>"
        if schema.get("additionalProperties") is False:
            yield "<p>No other fields.</p>"

    def _words(self, schema: Any) -> str:
        """A schema in a cell of a table."""
        if not isinstance(schema, dict):
            return "anything" if schema else "nothing"
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(PREFIX)
            return f'<a href="#{_type_id(name)}">{_text(name)}</a>'
        if "allOf" in schema:
            return " and ".join(map(self._words, schema["allOf"]))
        options = schema.get("anyOf")
        if options:
            return " or ".join(map(self._words, options))
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if values is not None:
            return ", ".join(map(_json, values))
        words = self._kind(schema)
        limits = [text.format(_code(schema[key])) for key, text in _LIMITS.items() if key in schema]
        if "default" in schema and schema["default"] is not None:
            limits.append(f"default {_code(schema['default'])}")
        return f"{words} <small>{', '.join(limits)}</small>" if limits else words

    def _kind(self, schema: Schema) -> str:
        match schema.get("type"):
            case "array":
                items = schema.get("items", True)
                if isinstance(items, list):
                    return f"[{', '.join(map(self._words, items))}]"
                return f"list of {self._words(items)}"
            case "object" if isinstance(schema.get("additionalProperties"), dict):
                return f"map of {self._words(schema['additionalProperties'])}"
            case "string" if "contentSchema" in schema:
                return f"JSON text of {self._words(schema['contentSchema'])}"
            case str(kind):
                return _text(kind)
            case list(kinds):
                return " or ".join(map(_text, kinds))
        return "anything"


def _message(operation: Mapping[str, Any]) -> str:
    message = operation[MESSAGE]
    name = "any other message" if message is None else message or "without a messageId"
    return _text(name) + (" (to a station)" if operation["action"] == "send" else "")


def _type_id(name: str) -> str:
    return f"type-{_text(name)}"


def _text(value: object) -> str:
    return html.escape(str(value))


def _code(value: object) -> str:
    return f"<code>{_text(value)}</code>"


def _json(value: object) -> str:
    return _code(msgspec.json.encode(value).decode())


def _prose(text: str) -> str:
    """Text of a docstring: what stands in backquotes is code."""
    return re.sub(r"(`+)([^`]+)\1", r"<code>\2</code>", _text(text))


_HEAD: Final = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head><main>"""
_STYLE: Final = """\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 small, h3 small, td small { font-weight: normal; color: GrayText }
h2 { margin-top: 3rem; border-bottom: 1px solid color-mix(in srgb, currentColor 30%, transparent) }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent) }
td { overflow-wrap: anywhere }
code { font: .9em ui-monospace, monospace; padding: 0 .2em; border-radius: .2em;
  background: color-mix(in srgb, currentColor 8%, transparent) }
"""
