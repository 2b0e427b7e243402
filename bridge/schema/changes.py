"""Two documents of `dtbridge schema` → what changes, and what of it breaks whom."""

import enum
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from bridge.routing.router import fold
from bridge.schema.asyncapi import FORM, MESSAGE, PART, PROPERTIES, QUEUES, VENDOR, Document
from bridge.schema.compare import Difference, differences, resolved

_Key = tuple[str, str, str | None]
"""The action, the vendor and the message of an operation."""


class Whom(enum.StrEnum):
    """Whose software has to change."""

    STATIONS = "stations"
    GATEWAYS = "gateways"


class Change(msgspec.Struct, frozen=True):
    """One thing that changes."""

    message: str
    """Of which message."""
    where: str
    """In what of it: the request, an answer; and where in that."""
    text: str
    breaks: Whom | None
    """Who must change before this is rolled out; None: nobody."""

    def __str__(self) -> str:
        return f"{self.message}, {self.where}: {self.text}"


class NoSchema(ValueError):
    """A document that ``dtbridge schema`` has not written."""


def changes(old: Document, new: Document) -> list[Change]:
    """What changes from one document to the other. Raises :class:`NoSchema`."""
    before, after = _operations(old), _operations(new)
    found: list[Change] = []
    try:
        for key in dict.fromkeys((*before, *after)):
            found += _Pair(key, before.get(key), after.get(key), old, new, before, after).changes()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NoSchema(f"it is broken ({type(error).__name__}: {error})") from error
    return list(dict.fromkeys(found))


def _operations(document: Any) -> dict[_Key, Mapping[str, Any]]:
    found = {}
    operations = document.get("operations") if isinstance(document, dict) else None
    if not isinstance(operations, dict) or not isinstance(document.get("channels"), dict):
        raise NoSchema("it has no channels and operations")
    for name, operation in operations.items():
        try:
            message = operation[MESSAGE]
            vendor, action = fold(operation[VENDOR]), operation["action"]
            found[action, vendor, message if message is None else fold(message)] = operation
        except (KeyError, TypeError, AttributeError):
            raise NoSchema(f"its operation {name!r:.80} does not say which message it is") from None
    return found


_WORDS: Final = {
    "request": "request",
    "accepted": "answer",
    "refused": "refusal",
    "call-error": "CALLERROR",
    "station-offline": "answer of a lost station",
}

_THEIRS: Final = frozenset({"request", "accepted", "refused"})
"""What gateways pass on to stations as it is, and back."""


class _Pair:
    """A message before and after."""

    def __init__(
        self,
        key: _Key,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
        old: Document,
        new: Document,
        all_before: Mapping[_Key, Mapping[str, Any]],
        all_after: Mapping[_Key, Mapping[str, Any]],
    ) -> None:
        self._action, vendor, _ = key
        self._before, self._after, self._old, self._new = before, after, old, new
        others = (self._action, vendor, None)
        self._others_before, self._others_after = all_before.get(others), all_after.get(others)
        there: Any = after or before
        message = there[MESSAGE]
        said = "any other message" if message is None else message or "without a messageId"
        to_station = " to stations" if self._action == "send" else ""
        self._name = f"{there[VENDOR]} {said}{to_station}"

    def changes(self) -> Iterator[Change]:
        before, after = self._before, self._after
        if after is None:
            after = self._others_after
            yield self._gone(handled=after is not None)
        elif before is None:
            before = self._others_before
            yield Change(self._name, "message", "new", None)
        if before is None or after is None:
            return
        yield from self._address(before, after)
        parts_before, parts_after = _parts(before, self._old), _parts(after, self._new)
        for key, message in parts_before.items():
            if key in parts_after:
                yield from self._message(key[0], message, parts_after[key])
            else:
                yield Change(self._name, _WORDS.get(key[0], key[0]), "gone", Whom.GATEWAYS)
        for part, _ in parts_after.keys() - parts_before.keys():
            yield Change(self._name, _WORDS.get(part, part), "new", None)

    def _gone(self, *, handled: bool) -> Change:
        if self._action == "send":
            return Change(self._name, "message", "no longer sent", None)
        if handled:
            text = "gone; the handler of all other messages has it now"
            return Change(self._name, "message", text, None)
        return Change(self._name, "message", "gone: its answer is a refusal", Whom.STATIONS)

    def _address(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
        places = (
            (before["channel"], after["channel"], "request"),
            (before["reply"]["channel"], after["reply"]["channel"], "answer"),
        )
        for one, other, where in places:
            was, now = resolved(one, self._old), resolved(other, self._new)
            for what, path in (
                ("routing key", ("address",)),
                ("exchange", ("bindings", "amqp", "exchange", "name")),
                ("type of exchange", ("bindings", "amqp", "exchange", "type")),
            ):
                a, b = _at(was, path), _at(now, path)
                if a != b:
                    yield Change(self._name, where, f"{what} {b} now, {a} before", Whom.GATEWAYS)
            if was.get(QUEUES) != now.get(QUEUES):
                text = f"queues {_joined(now.get(QUEUES))} now, {_joined(was.get(QUEUES))} before"
                yield Change(self._name, where, text, None)

    def _message(
        self, part: str, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> Iterator[Change]:
        # What comes to the CSMS must be taken as it was; what it sends must be nothing new.
        comes_in = (self._action == "receive") == (part == "request")
        for what, key in (
            ("", "payload"),
            (" header", "headers"),
            (" property", PROPERTIES),
        ):
            for each in differences(
                before.get(key, True), after.get(key, True), self._old, self._new
            ):
                breaks = each.narrower if comes_in else each.wider
                if key == "payload" and each.path in {"vendorId", "messageId"}:
                    continue  # by these the two were found: the case of letters does not count
                whom = Whom.STATIONS if key == "payload" and part in _THEIRS else Whom.GATEWAYS
                where = f"{_WORDS.get(part, part)}{what}"
                yield Change(self._name, _where(where, each), each.text, whom if breaks else None)


def _where(where: str, difference: Difference) -> str:
    return f"{where} {difference.path}" if difference.path else where


def _parts(
    operation: Mapping[str, Any], document: Document
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The messages of an operation, by what they are and the form of their payload."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for reference in (*operation["messages"], *operation["reply"]["messages"]):
        message = resolved(reference, document)
        found[message.get(PART, ""), message.get(FORM, "")] = message
    return found


def _at(channel: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = channel
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _joined(queues: Any) -> str:
    return ", ".join(map(str, queues)) if isinstance(queues, list) else "none"
