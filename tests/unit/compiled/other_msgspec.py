"""Stand-ins for a msgspec whose Structs are as they are now, but lie otherwise in memory."""

from typing import Any

import msgspec

OURS = msgspec.Struct


class Reserved:
    """A slot before the fields of every Struct."""

    __slots__ = ("reserved",)


class Reordered(type(OURS)):  # type: ignore[misc] # the metaclass has no public name
    """The field that is declared first lies first; else they lie in the order of their names."""

    def __new__(mcs, name: str, bases: tuple[type, ...], names: Any, **options: Any) -> Any:
        fields = names.get("__annotations__", {})
        if bases != (msgspec.Struct,) or len(fields) < 2:
            return super().__new__(mcs, name, bases, names, **options)
        first = next(iter(fields))
        head = {
            "__module__": names["__module__"],
            "__annotations__": {first: fields.pop(first)},
        }
        if first in names:
            head[first] = names.pop(first)
        base = super().__new__(mcs, name, bases, head, **options)
        return super().__new__(mcs, name, (base,), names, **options)


def install(kind: str) -> None:
    """Before bridge is imported. `kind`: ``moved`` or ``reordered``."""
    names = {"__module__": "msgspec"}
    structs: dict[str, Any] = {
        "moved": type(OURS)("Struct", (OURS, Reserved), names),
        "reordered": Reordered("Struct", (OURS,), names),
    }
    vars(msgspec)["Struct"] = structs[kind]
