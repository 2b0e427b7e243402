"""From the type of a handler's data to the function that reads the data."""

import inspect
import typing
from collections.abc import Callable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from bridge.ocpp.faults import DECODE_FAULTS, describe_fault
from bridge.routing.errors import HandlerError, InvalidData

DataReader = Callable[[Raw | UnsetType], Any]

Data = TypeVar("Data")


class _Leniently:
    def __repr__(self) -> str:
        return "leniently"


_LENIENTLY: Final = _Leniently()

Lenient: TypeAlias = Annotated[Data, _LENIENTLY]
"""``Lenient[Tariff]``: a Tariff whose numbers and booleans may come as text, as many stations send
them: ``"33"`` and ``"33.0"`` for 33, ``"true"`` or ``1`` for true. It stands around the whole type:
``Lenient[Tariff | None]``."""

QUOTE = ord('"')
NULL = b"null"
_decode_text = msgspec.json.Decoder(str).decode


def type_name(data_type: Any) -> str:
    """A type as one would write it in an annotation."""
    data_type, _ = _strictness(data_type)
    if typing.get_origin(data_type) is None and isinstance(data_type, type):
        return data_type.__qualname__
    return str(data_type).replace("typing.", "")


def data_reader(
    data_type: Any, default: Any = inspect.Parameter.empty, name: str = "the handler"
) -> DataReader:
    """The function from `data` to a value of `data_type`; it raises :class:`InvalidData`.

    `default`: the value if the data is absent. `name`: the handler's, for errors. Raises
    :class:`HandlerError` for a type that cannot be decoded.
    """
    data_type, strict = _strictness(data_type)
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
    if absent is inspect.Parameter.empty and _takes(
        shape, (msgspec.inspect.NoneType, msgspec.inspect.AnyType)
    ):
        absent = None
    decoder = msgspec.json.Decoder(data_type, strict=strict)
    if _takes(shape, _TEXT_TYPES):
        return _reader_of_value(absent, decoder)
    return _reader_of_structure(
        absent, data_type, decoder, none_is_empty=_takes(shape, (msgspec.inspect.NoneType,))
    )


def reads_all(data_type: Any) -> bool:
    """Whether the reader of this type finds every fault in the syntax of the data.

    Those of text and of Raw need not look inside it.
    """
    plain, _ = _without_none(_strictness(data_type)[0])
    return not any(plain is kind for kind in (Raw, str, bytes))


def _strictness(data_type: Any) -> tuple[Any, bool]:
    """``Lenient[X]`` as X and False; any other type as it is, and True."""
    if typing.get_origin(data_type) is Annotated:
        inner, *notes = typing.get_args(data_type)
        others = tuple(note for note in notes if note is not _LENIENTLY)
        if len(others) < len(notes):
            return (Annotated[(inner, *others)] if others else inner), False
    return data_type, True


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
"""The types that msgspec decodes from a JSON string."""


def _takes(shape: msgspec.inspect.Type, kinds: tuple[type[msgspec.inspect.Type], ...]) -> bool:
    """Whether a JSON value of one of these `kinds` fits `shape` as it is."""
    match shape:
        case msgspec.inspect.UnionType():
            return any(_takes(option, kinds) for option in shape.types)
        case msgspec.inspect.Metadata():
            return _takes(shape.type, kinds)
        case msgspec.inspect.EnumType():
            return msgspec.inspect.StrType in kinds and any(
                isinstance(member.value, str) for member in shape.cls
            )
        case msgspec.inspect.LiteralType():
            return msgspec.inspect.StrType in kinds and any(
                isinstance(value, str) for value in shape.values
            )
        case _:
            return isinstance(shape, kinds)


def _shape(data_type: Any, name: str) -> msgspec.inspect.Type:
    try:
        shape = msgspec.inspect.type_info(data_type)
        msgspec.json.Decoder(data_type)
    except (TypeError, NameError) as error:
        raise HandlerError(f"{name} cannot be given its data: {error}") from error
    if isinstance(shape, msgspec.inspect.UnionType) and _takes(shape, (msgspec.inspect.RawType,)):
        raise HandlerError(
            f"{name} cannot be given its data: msgspec.Raw takes any JSON,"
            " so nothing else beside it"
        )
    for part in _parts(shape, set()):
        if isinstance(part, msgspec.inspect.CustomType):
            raise HandlerError(
                f"{name} cannot be given its data:"
                f" msgspec does not know how to decode {type_name(part.cls)}"
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
        if optional and memoryview(raw) == NULL:
            return None
        try:
            return convert(raw)
        except DECODE_FAULTS as fault:
            raise InvalidData(describe_fault(fault, "data")[1]) from fault

    return read


def _reader_of_value(default: Any, decoder: msgspec.json.Decoder[Any]) -> DataReader:
    decode = decoder.decode

    def read(raw: Raw | UnsetType) -> Any:
        if raw is UNSET:
            return _absent(default)
        try:
            return decode(raw)
        except DECODE_FAULTS as fault:
            raise InvalidData(describe_fault(fault, "data")[1]) from fault

    return read


def _reader_of_structure(
    default: Any, data_type: Any, decoder: msgspec.json.Decoder[Any], *, none_is_empty: bool
) -> DataReader:
    decode_text = decoder.decode
    # One pass tells the two apart.
    decode = msgspec.json.Decoder(data_type | str, strict=decoder.strict).decode

    def read(raw: Raw | UnsetType) -> Any:
        if raw is UNSET:
            return _absent(default)
        try:
            value = decode(raw)
            if type(value) is not str:
                return value
            return None if none_is_empty and not value else decode_text(value)
        except DECODE_FAULTS as fault:
            raise InvalidData(describe_fault(fault, "data")[1]) from fault

    return read
