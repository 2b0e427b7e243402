"""What a function says of itself: its parameters, the type of its data, and that of its answer.

All of it is looked at when the handler is registered, so that a mistake is a sentence at import,
and not an answer that a station gets.
"""

import inspect
import re
import typing
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Final

from bridge.ocpp import DataTransferRequest
from bridge.request.incoming import Call
from bridge.routing.annotations import UNKNOWN, annotated, own_annotations, resolved, said_of
from bridge.routing.answer import awaited, what_is_wrong
from bridge.routing.data import type_name
from bridge.routing.errors import HandlerError

FORM: Final = "a handler is (call, data) or (call)"

_CALL: Final = re.compile(r"(\w+\.)*Call(\[.*\])?")
"""The annotation of a call, if its name is imported for the type checker only."""


def positional_parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    """The parameters for the call and, if there is a second one, for the data.

    `name`: the handler's, for errors. Raises :class:`HandlerError` for a function that cannot be
    called with one or two arguments.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise HandlerError(f"the parameters of {name} are not known ({error}): {FORM}") from error
    positional = []
    for parameter in parameters:
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            positional.append(parameter)
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise HandlerError(f"{name} asks for {parameter.name!r} by keyword: {FORM}")
    if positional and positional[0].name == "self":
        raise HandlerError(
            f"{name} is a method without its object: register that of an object, with"
            " router.on(...)(thing.method), or write @router.method(...) if the router's lifespan"
            " makes the object"
        )
    if len(positional) > 2:
        extra = [parameter for parameter in positional[2:] if parameter.default is parameter.empty]
        if extra:
            raise HandlerError(f"{name} asks for {extra[0].name!r}: {FORM}")
    rest = next((each for each in parameters if each.kind is each.VAR_POSITIONAL), None)
    if not positional:
        made = f" but *{rest.name}, so what it takes is not known" if rest else ""
        wraps = "; if a decorator made it, have that use functools.wraps" if rest else ""
        raise HandlerError(f"{name} takes no call{made}: {FORM}{wraps}")
    if rest is not None and len(positional) == 1:
        raise HandlerError(
            f"{name} takes *{rest.name}, and is given no data by it: {FORM}; name the data, with"
            " its type, or leave it out"
        )
    return positional[:2]


def check_call(
    function: Callable[..., Any], parameters: list[inspect.Parameter], name: str
) -> None:
    """Raise :class:`HandlerError` if the call would not come where the function takes it."""
    first, *rest = parameters
    taken, at = _taken(function, first.name), first.name
    if rest:
        second = rest[0]
        other = _taken(function, second.name)
        if taken is not Call and (
            other is Call or (other is UNKNOWN and second.name == "call" != at)
        ):
            data = at if taken is UNKNOWN else f"{at}: {type_name(taken)}"
            raise HandlerError(
                f"{name} has its parameters swapped: the call comes first, so write"
                f" ({second.name}: Call, {data})"
            )
        if other is Call:
            raise HandlerError(
                f"{name} says that {second.name!r} is a Call too: annotate it with the type of the"
                " data"
            )
        if other is DataTransferRequest:
            raise HandlerError(
                f"{name} says that {second.name!r} is a DataTransferRequest, and it is given what"
                " is inside one: annotate it with the type of the data, and take the whole request"
                " from call.request"
            )
    if taken is not Call and taken is not UNKNOWN:
        what = type_name(taken)
        write = f"({at}: Call, ...)" if rest else f"(call: Call, {at}: {what})"
        raise HandlerError(
            f"{name} says that {at!r} is of type {what}, and the first parameter is given the call:"
            f" write {write}"
        )


def _taken(function: Callable[..., Any], parameter: str) -> Any:
    """The type of a parameter: Call, if it takes one and says so; ``UNKNOWN``: it does not say."""
    target = annotated(function)
    annotation = own_annotations(target).get(parameter, Any)
    try:
        annotation = resolved(annotation, target)
    except Exception:  # noqa: BLE001 - an annotation runs as code
        return Call if _CALL.fullmatch(str(annotation)) else UNKNOWN
    return _with_call(annotation)


def _with_call(annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _with_call(typing.get_args(annotation)[0])
    if origin in {typing.Union, UnionType}:
        options = [_with_call(option) for option in typing.get_args(annotation)]
        known = next((each for each in (Call, UNKNOWN) if each in options), None)
        return annotation if known is None else known
    kind = NoneType if annotation is None else origin or annotation
    if not isinstance(kind, type) or kind is object or kind is Any:
        return UNKNOWN
    if getattr(kind, "_is_protocol", False):
        return UNKNOWN
    return Call if issubclass(Call, kind) else annotation


def check_answer(function: Callable[..., Any], name: str, *, is_async: bool) -> None:
    """Raise :class:`HandlerError` if the function says that its answer is of a type without JSON.

    Nothing is said of an annotation that cannot be resolved, nor of a decorated function, whose
    decorator may make something else of the answer.
    """
    wrong = what_is_wrong(type_of_answer(function, is_async=is_async))
    if wrong is not None:
        raise HandlerError(f"{name} says that it answers with {wrong}")


def type_of_answer(function: Callable[..., Any], *, is_async: bool) -> Any:
    """What a handler says that it answers with; of an ``async def``, what is awaited.

    Any: it says nothing, it cannot be resolved, or a decorator may make something else of it.
    """
    if hasattr(function, "__wrapped__") or hasattr(annotated(function), "__wrapped__"):
        return Any
    annotation = said_of(function, "return")
    if annotation is UNKNOWN:
        return Any
    return annotation if is_async else awaited(annotation)


def type_of_data(function: Callable[..., Any], parameter: str, name: str) -> Any:
    """The annotation of the data, resolved. Raises :class:`HandlerError` if it has none."""
    target = annotated(function)
    annotation = own_annotations(target).get(parameter, inspect.Parameter.empty)
    if annotation is inspect.Parameter.empty:
        raise HandlerError(
            f"{name} does not say the type of {parameter!r}: annotate it with a msgspec Struct,"
            " any type msgspec decodes, str, bytes, msgspec.Raw or Any"
        )
    what = f"{name} says that {parameter!r} is a {annotation}"
    try:
        return resolved(annotation, target)
    except NameError as error:
        raise HandlerError(
            f"{what}, and there is no such name where it is defined ({error});"
            " define the type in the module"
        ) from error
    except Exception as error:
        raise HandlerError(
            f"{what}, and that is no type ({type(error).__name__}: {error})"
        ) from error
