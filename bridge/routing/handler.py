"""A vendor's function, compiled at import: what it takes, how its data is decoded, how it is run.

A handler is ``(call, data)`` or ``(call)``. The annotation of `data` is its type, and all there is to say about
decoding:

===================  ================================================================================================
``str``, ``bytes``   the text of the data: a string's content; for any other JSON value its JSON text
``msgspec.Raw``      the JSON bytes, verbatim
one of these | None  the same, and None for null (Raw gives null verbatim, too)
``Any``              the JSON value, nothing altered: a string stays a string
any other type       the JSON value; if that is a string and the type takes none, the JSON text inside the string, which
                     is how OCPP 1.6 carries structured data
===================  ================================================================================================

Data that is absent is the parameter's default, if it has one, or None, if the type takes that (or is ``Any``). For a type
that takes None and no string, an empty string says the same: stations send it for "none".
"""

import inspect
import typing
from collections.abc import Callable, Iterator
from functools import partial
from types import NoneType, SimpleNamespace, UnionType
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from bridge.ocpp.faults import DECODE_FAULTS, describe
from bridge.request.retry import RetryPolicy

DataReader = Callable[[Raw | UnsetType], Any]

QUOTE = ord('"')
NULL = b"null"
_decode_text = msgspec.json.Decoder(str).decode


class HandlerError(TypeError):
    """A handler that could never be called. The message names it and says what to change."""


class InvalidData(Exception):
    """`data` does not fit the handler's type. The message holds the path of the fault."""


class Handler(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One function, ready to be called."""

    function: Callable[..., Any]
    name: str
    """Module and name, for people."""
    data_type: Any
    """The annotation; :data:`inspect.Parameter.empty` if it takes no data."""
    read_data: DataReader | None
    """`data` of the envelope → the argument; None: it takes no data. Raises :class:`InvalidData`."""
    is_async: bool
    timeout: float
    """Seconds it may take."""
    retry: RetryPolicy | None = None
    """When it is tried again; None: as the worker says."""

    @property
    def type_name(self) -> str:
        """The type of its data as a reader would write it."""
        return "-" if self.read_data is None else type_name(self.data_type)


def compile_handler(function: Callable[..., Any], timeout: float, retry: RetryPolicy | None = None) -> Handler:
    """Raises :class:`HandlerError` for a function that could not be called with a request."""
    name = handler_name(function)
    if not callable(function):
        raise HandlerError(f"{name} is not a function, so it cannot handle messages")
    if not timeout > 0:  # so that NaN is refused, too
        raise HandlerError(f"the timeout of {name} must be more than 0 seconds, not {timeout}")
    forms = (function, getattr(function, "__call__", None))  # noqa: B004 - its kind is asked for, not whether it is there
    if any(inspect.isasyncgenfunction(form) or inspect.isgeneratorfunction(form) for form in forms):
        raise HandlerError(f"{name} is a generator: a handler returns one answer")
    parameters = _positional_parameters(function, name)
    is_async = any(map(inspect.iscoroutinefunction, forms))
    if len(parameters) == 1:
        return Handler(function, name, inspect.Parameter.empty, None, is_async, timeout, retry)
    data_type = _data_type(function, parameters[1].name, name)
    read_data = data_reader(data_type, parameters[1].default, name)
    return Handler(function, name, data_type, read_data, is_async, timeout, retry)


def handler_name(function: Any) -> str:
    module = getattr(function, "__module__", None)
    if isinstance(function, partial):
        return handler_name(function.func)
    qualified = getattr(function, "__qualname__", None) or repr(function)
    return f"{module}.{qualified}" if module else str(qualified)


def type_name(data_type: Any) -> str:
    if typing.get_origin(data_type) is None and isinstance(data_type, type):
        return data_type.__qualname__
    return str(data_type).replace("typing.", "")


def _positional_parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    positional = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            positional.append(parameter)
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise HandlerError(f"{name} asks for {parameter.name!r} by keyword: a handler is (call, data) or (call)")
    if len(positional) > 2:
        extra = [parameter for parameter in positional[2:] if parameter.default is parameter.empty]
        if extra:
            raise HandlerError(f"{name} asks for {extra[0].name!r}: a handler is (call, data) or (call)")
    if not positional:
        raise HandlerError(f"{name} takes no call: a handler is (call, data) or (call)")
    return positional[:2]


def _data_type(function: Callable[..., Any], parameter: str, name: str) -> Any:
    if isinstance(function, partial):
        return _data_type(function.func, parameter, name)
    target = function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]
    annotation = _own_annotations(target).get(parameter, inspect.Parameter.empty)
    if annotation is inspect.Parameter.empty:
        raise HandlerError(
            f"{name} does not say the type of {parameter!r}: annotate it with a msgspec Struct, any type msgspec decodes, "
            "str, bytes, msgspec.Raw or Any"
        )
    return _resolve(annotation, target, f"{name} says that {parameter!r} is a {annotation}")


def _resolve(annotation: Any, target: Any, what: str) -> Any:
    """The type that an annotation names, given as a string or with strings in it.

    It alone is resolved: that of `call` may be imported for the type checker only.
    """
    alone = SimpleNamespace(__annotations__={"data": annotation})
    try:
        namespace = inspect.unwrap(target).__globals__
        return typing.get_type_hints(alone, namespace, namespace, include_extras=True)["data"]
    except NameError as error:
        raise HandlerError(
            f"{what}, and there is no such name where it is defined ({error}); define the type in the module"
        ) from error
    except Exception as error:
        raise HandlerError(f"{what}, and that is no type ({type(error).__name__}: {error})") from error


def _own_annotations(target: Any) -> dict[str, Any]:
    return dict(getattr(inspect.unwrap(target), "__annotations__", {}))


def data_reader(data_type: Any, default: Any = inspect.Parameter.empty, name: str = "the handler") -> DataReader:
    """How `data` becomes a value of `data_type`. Raises :class:`HandlerError` for a type that cannot be decoded."""
    plain, optional = _without_none(data_type)
    absent = default
    if optional and absent is inspect.Parameter.empty:
        absent = None
    if plain is Raw:
        return _reader_of_raw(absent)
    if plain is str:
        return _reader_of_text(absent, _text, optional=optional)
    if plain is bytes:
        return _reader_of_text(absent, lambda raw: _text(raw).encode(), optional=optional)
    shape = _shape(data_type, name)
    if absent is inspect.Parameter.empty and _takes(shape, (msgspec.inspect.NoneType, msgspec.inspect.AnyType)):
        absent = None
    decoder = msgspec.json.Decoder(data_type)
    if _takes(shape, _TEXT_TYPES):
        return _reader_of_value(absent, decoder)
    return _reader_of_structure(absent, data_type, decoder, none_is_empty=_takes(shape, (msgspec.inspect.NoneType,)))


def _without_none(data_type: Any) -> tuple[Any, bool]:
    """``X | None`` as X and True; any other type as it is."""
    if typing.get_origin(data_type) in {typing.Union, UnionType}:
        options = [option for option in typing.get_args(data_type) if option is not NoneType]
        if len(options) == 1:
            return options[0], True
    return data_type, False


_TEXT_TYPES = (
    msgspec.inspect.AnyType,
    msgspec.inspect.StrType,
    msgspec.inspect.BytesType,
    msgspec.inspect.ByteArrayType,
    msgspec.inspect.MemoryViewType,
    msgspec.inspect.DateTimeType,
    msgspec.inspect.DateType,
    msgspec.inspect.TimeType,
    msgspec.inspect.TimeDeltaType,
    msgspec.inspect.UUIDType,
    msgspec.inspect.DecimalType,
)
"""Types that msgspec decodes from a JSON string."""


def _takes(shape: msgspec.inspect.Type, kinds: tuple[type[msgspec.inspect.Type], ...]) -> bool:
    """Whether a JSON value of one of these `kinds` fits `shape` as it is."""
    match shape:
        case msgspec.inspect.UnionType():
            return any(_takes(option, kinds) for option in shape.types)
        case msgspec.inspect.Metadata():
            return _takes(shape.type, kinds)
        case msgspec.inspect.EnumType():
            return msgspec.inspect.StrType in kinds and any(isinstance(member.value, str) for member in shape.cls)
        case msgspec.inspect.LiteralType():
            return msgspec.inspect.StrType in kinds and any(isinstance(value, str) for value in shape.values)
        case _:
            return isinstance(shape, kinds)


def _shape(data_type: Any, name: str) -> msgspec.inspect.Type:
    try:
        shape = msgspec.inspect.type_info(data_type)
        msgspec.json.Decoder(data_type)
    except (TypeError, NameError) as error:
        raise HandlerError(f"{name} cannot be given its data: {error}") from error
    if isinstance(shape, msgspec.inspect.UnionType) and _takes(shape, (msgspec.inspect.RawType,)):
        raise HandlerError(f"{name} cannot be given its data: msgspec.Raw takes any JSON, so nothing else beside it")
    for part in _parts(shape, set()):
        if isinstance(part, msgspec.inspect.CustomType):
            raise HandlerError(
                f"{name} cannot be given its data: msgspec does not know how to decode {type_name(part.cls)}"
            )
    return shape


def _parts(shape: Any, seen: set[int]) -> Iterator[Any]:
    """A type and every type within it."""
    if id(shape) in seen:
        return
    seen.add(id(shape))
    yield shape
    for field in getattr(shape, "__struct_fields__", ()):
        value = getattr(shape, field)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, msgspec.inspect.Type | msgspec.inspect.Field):
                yield from _parts(inner, seen)


def _text(raw: Raw) -> str:
    view = memoryview(raw)
    return _decode_text(raw) if view[0] == QUOTE else str(view, "utf-8")


def _absent(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        raise InvalidData("data: required and missing")
    return default


def _reader_of_raw(default: Any) -> DataReader:
    def read(raw: Raw | UnsetType) -> Any:
        return _absent(default) if raw is UNSET else Raw(bytes(raw))

    return read


def _reader_of_text(default: Any, convert: Callable[[Raw], Any], *, optional: bool) -> DataReader:
    def read(raw: Raw | UnsetType) -> Any:
        if raw is UNSET:
            return _absent(default)
        if optional and bytes(raw) == NULL:
            return None
        try:
            return convert(raw)
        except DECODE_FAULTS as fault:
            raise InvalidData(describe(fault, "data")[1]) from fault

    return read


def _reader_of_value(default: Any, decoder: msgspec.json.Decoder[Any]) -> DataReader:
    decode = decoder.decode

    def read(raw: Raw | UnsetType) -> Any:
        if raw is UNSET:
            return _absent(default)
        try:
            return decode(raw)
        except DECODE_FAULTS as fault:
            raise InvalidData(describe(fault, "data")[1]) from fault

    return read


def _reader_of_structure(
    default: Any, data_type: Any, decoder: msgspec.json.Decoder[Any], *, none_is_empty: bool
) -> DataReader:
    decode_text = decoder.decode
    decode = msgspec.json.Decoder(data_type | str).decode  # one pass tells the two apart

    def read(raw: Raw | UnsetType) -> Any:
        if raw is UNSET:
            return _absent(default)
        try:
            value = decode(raw)
            if type(value) is not str:
                return value
            return None if none_is_empty and not value else decode_text(value)
        except DECODE_FAULTS as fault:
            raise InvalidData(describe(fault, "data")[1]) from fault

    return read
