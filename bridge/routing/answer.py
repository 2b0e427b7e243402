"""From the annotation of a handler's answer to what of it no JSON can be made of.

Only what is certain counts: ``object``, a protocol and an abstract class may be anything, and a
field of several types is well if one of them can be encoded.
"""

import inspect
import typing
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Final

import msgspec

from bridge.request.incoming import Call
from bridge.routing.data import type_name

_NEVER: Final[tuple[Any, ...]] = (Awaitable, AsyncIterable, Iterator, Callable)
"""Abstract classes, no object of which is ever encoded."""

_NO_KEYS: Final = (
    msgspec.inspect.NoneType,
    msgspec.inspect.BoolType,
    msgspec.inspect.StructType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.TupleType,
    msgspec.inspect.VarTupleType,
    msgspec.inspect.NamedTupleType,
    msgspec.inspect.FrozenSetType,
)
"""Keys that msgspec writes no object with."""


def what_is_wrong(annotation: Any) -> str | None:
    """Why an answer of this type cannot be sent, as the end of a sentence; None: it may be.

    `annotation`: the type, resolved; of an ``async def`` it is that of what is awaited.
    """
    culprit = _culprit(annotation)
    if culprit is None:
        return None
    if culprit is Call:
        return "the call itself: answer with the data alone"
    if isinstance(culprit, type) and issubclass(culprit, BaseException):
        return f"{culprit.__qualname__}: raise it, do not return it"
    if culprit is type:
        return "a class: answer with a value of it"
    return (
        f"{type_name(culprit)}, which msgspec cannot encode: answer with a msgspec Struct, any"
        " other type msgspec encodes, or None"
    )


def awaited(annotation: Any) -> Any:
    """What an awaitable of this type gives; any other type as it is."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Awaitable) and arguments:
        return arguments[-1]
    return annotation


def _culprit(annotation: Any) -> Any:
    """The part of a type for which it cannot be encoded; None: there is none."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _culprit(arguments[0])
    if origin in {typing.Union, UnionType}:
        # Two Structs without tags are no type to msgspec: it could not tell them apart to decode.
        culprits = (_culprit(option) for option in arguments)
        return next((each for each in culprits if each is not None), None)
    try:
        shape = msgspec.inspect.type_info(annotation)
    except Exception:  # noqa: BLE001 - it runs code of a vendor's type, and says nothing then
        return None
    return _culprit_in(shape, set())


def _culprit_in(shape: Any, seen: set[int]) -> Any:
    if id(shape) in seen:
        return None
    seen.add(id(shape))
    match shape:
        case msgspec.inspect.UnionType():
            culprits = [_culprit_in(option, seen) for option in shape.types]
            return None if None in culprits else culprits[0]
        case msgspec.inspect.StructType() if _class(shape.cls) is Call:
            return Call
        case msgspec.inspect.CustomType():
            return shape.cls if _is_never_encoded(_class(shape.cls)) else None
        case msgspec.inspect.DictType() if isinstance(shape.key_type, _NO_KEYS):
            return dict[_plain(shape.key_type), Any]  # type: ignore[misc]  # made at run time
    for field in shape.__struct_fields__:
        value = getattr(shape, field)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, msgspec.inspect.Type | msgspec.inspect.Field):
                culprit = _culprit_in(inner, seen)
                if culprit is not None:
                    return culprit
    return None


def _class(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def _plain(key: Any) -> Any:
    match key:
        case msgspec.inspect.NoneType():
            return None
        case msgspec.inspect.BoolType():
            return bool
        case msgspec.inspect.TupleType() | msgspec.inspect.VarTupleType():
            return tuple
        case msgspec.inspect.FrozenSetType():
            return frozenset
    return key.cls


def _is_never_encoded(kind: Any) -> bool:
    if kind in {object, msgspec.UnsetType}:
        return False
    if issubclass(kind, _NEVER):
        return True
    return not (inspect.isabstract(kind) or getattr(kind, "_is_protocol", False))
