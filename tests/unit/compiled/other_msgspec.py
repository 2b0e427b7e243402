"""Stand-ins for a msgspec whose Structs are as they are now, but lie otherwise in memory."""

from typing import Any

import msgspec

OURS = msgspec.Struct


class Moved(type(OURS)):  # type: ignore[misc] # the metaclass has no public name
    """Each Struct has a slot of its own before its fields."""

    def __new__(mcs, name: str, bases: tuple[type, ...], names: Any, **options: Any) -> Any:
        options.pop("gc", None)  # the slot is one for weak references, and these exclude gc=False
        return super().__new__(mcs, name, bases, names, weakref=True, **options)


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


def install(metaclass: str) -> None:
    """Before bridge is imported."""
    kind = {"Moved": Moved, "Reordered": Reordered}[metaclass]
    vars(msgspec)["Struct"] = kind("Struct", (OURS,), {"__module__": "msgspec"})
