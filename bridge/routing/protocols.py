"""What a handler is, for type checkers: who swaps its parameters is told before it runs.

A checker finds a handler with other parameters than ``(call, data)`` or ``(call)``, and an answer
that no JSON can be made of. What it cannot see, :mod:`bridge.routing.handler` finds at import: the
type of the data, and all that is annotated with ``Any``.
"""

from collections.abc import Awaitable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar
from uuid import UUID

from msgspec import Raw, Struct, UnsetType

from bridge.request.incoming import Call


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Attrs(Protocol):
    __attrs_attrs__: ClassVar[Any]


class _TypedDict(Protocol):
    """A checker takes none for a mapping of what can be encoded, only for one of objects."""

    __required_keys__: ClassVar[frozenset[str]]


_Text: TypeAlias = str | bytes | bytearray | memoryview | date | time | timedelta | Decimal | UUID
_Scalar: TypeAlias = bool | int | float | _Text | Enum | Raw | UnsetType | None
_Structure: TypeAlias = Struct | _Dataclass | _Attrs | _TypedDict
Encodable: TypeAlias = (
    _Scalar
    | _Structure
    | Sequence["Encodable"]
    | AbstractSet["Encodable"]
    | Mapping[Any, "Encodable"]
    | list[object]
    | dict[str, object]
)
"""What the data of an answer can be made of (``DataTransferResponse`` is a Struct as well). Lists
and objects of ``object``, of which nothing is known, are taken; ``Any`` always is."""


class HandlerOfData(Protocol):
    """A handler that is given the call and the data; its annotation of `data` is the type."""

    def __call__(self, call: Call, data: Any, /) -> Encodable | Awaitable[Encodable]: ...


class HandlerOfCall(Protocol):
    """A handler that is given the call alone."""

    def __call__(self, call: Call, /) -> Encodable | Awaitable[Encodable]: ...


HandlerFunction = TypeVar("HandlerFunction", bound=HandlerOfData | HandlerOfCall)
"""A handler, which stays what it is when it is registered."""


class Registering(Protocol):
    """Registers the function below it, which keeps its type."""

    def __call__(self, function: HandlerFunction, /) -> HandlerFunction: ...


class MethodOfData(Protocol):
    """A handler that is a method of what a lifespan makes, registered within its class."""

    def __call__(self, own: Any, call: Call, data: Any, /) -> Encodable | Awaitable[Encodable]: ...


class MethodOfCall(Protocol):
    """A method that is given the call alone."""

    def __call__(self, own: Any, call: Call, /) -> Encodable | Awaitable[Encodable]: ...


HandlerMethod = TypeVar("HandlerMethod", bound=MethodOfData | MethodOfCall)
"""A method, which stays what it is when it is registered."""


class RegisteringMethod(Protocol):
    """Registers the method below it, which keeps its type."""

    def __call__(self, function: HandlerMethod, /) -> HandlerMethod: ...
