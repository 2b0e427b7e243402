"""Stand-ins for a msgspec whose Structs are as they are now, but lie otherwise in memory."""

from typing import Any

import msgspec

OURS = msgspec.Struct


class Slot:
    """A slot that is no field."""

    __slots__ = ("reserved",)


class Moved(OURS, Slot):
    """The fields lie behind a slot."""


class _Reordering(type(OURS)):  # type: ignore[misc] # the metaclass has no public name
    """Gives a Struct a base class with the field that is declared first."""

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


class Reordered(OURS, metaclass=_Reordering):
    """The field that is declared first lies first, the others in the order of their names."""


def install(name: str) -> None:
    """Before bridge is imported. `name`: that of a class above."""
    vars(msgspec)["Struct"] = {"Moved": Moved, "Reordered": Reordered}[name]
