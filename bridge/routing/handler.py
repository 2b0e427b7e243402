"""A vendor's function, examined when it is registered: what it takes, and how it is run.

A handler is ``(call, data)`` or ``(call)``. The annotation of `data` is its type, and all there is
to say about decoding:

===================  ===========================================================================
``str``, ``bytes``   the text of the data: the content of a string, the JSON text of anything else
``msgspec.Raw``      the JSON bytes, verbatim
one of these | None  the same, and None for null (Raw gives null verbatim, too)
``Any``              the JSON value, unaltered: a string stays a string
any other type       the JSON value; if that is a string, and the type does not take one, the JSON
                     text inside the string, which is how OCPP 1.6 carries structured data
===================  ===========================================================================

If the data is absent, the argument is the parameter's default or, if the type takes None (or is
``Any``), None. For a type that takes None and not a string, an empty string means None as well:
stations send it for "none".
"""

import inspect
import typing
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec

from bridge.request.retry import RetryPolicy
from bridge.routing.data import DataReader, data_reader, type_name
from bridge.routing.errors import HandlerError
from bridge.telemetry.exceptions import qualified_name


class Handler(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One function, ready to be called."""

    function: Callable[..., Any]
    name: str
    """Module and name, for people."""
    data_type: Any
    """The annotation; :data:`inspect.Parameter.empty` if it takes no data."""
    read_data: DataReader | None
    """`data` of the envelope → the argument; None: it takes no data. Raises
    :class:`~bridge.routing.errors.InvalidData`."""
    is_async: bool
    timeout: float
    """Seconds it may take."""
    retry: RetryPolicy | None = None
    """When its requests are tried again; None: as the worker says."""

    @property
    def type_name(self) -> str:
        """The type of its data as one would write it; ``-``: it takes no data."""
        return "-" if self.read_data is None else type_name(self.data_type)


def compile_handler(
    function: Callable[..., Any], timeout: float, retry: RetryPolicy | None = None
) -> Handler:
    """Examine a function, and build the reader of its data. `timeout`: seconds that it may take.

    Raises :class:`HandlerError` for a function that could not be called with a request.
    """
    name = qualified_name(function)
    if not callable(function):
        raise HandlerError(f"{name} is not a function, so it cannot handle messages")
    if not timeout > 0:  # not `timeout <= 0`, which lets NaN pass
        raise HandlerError(f"the timeout of {name} must be more than 0 seconds, not {timeout}")
    kind: Any = type(function)
    forms = (function, kind.__call__)  # a function, or an object that can be called
    if any(inspect.isasyncgenfunction(form) or inspect.isgeneratorfunction(form) for form in forms):
        raise HandlerError(f"{name} is a generator: a handler returns one answer")
    parameters = _positional_parameters(function, name)
    is_async = any(map(inspect.iscoroutinefunction, forms))
    if len(parameters) == 1:
        return Handler(function, name, inspect.Parameter.empty, None, is_async, timeout, retry)
    data_type = _data_type(function, parameters[1].name, name)
    read_data = data_reader(data_type, parameters[1].default, name)
    return Handler(function, name, data_type, read_data, is_async, timeout, retry)


def _positional_parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    positional = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            positional.append(parameter)
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise HandlerError(
                f"{name} asks for {parameter.name!r} by keyword:"
                " a handler is (call, data) or (call)"
            )
    if len(positional) > 2:
        extra = [parameter for parameter in positional[2:] if parameter.default is parameter.empty]
        if extra:
            raise HandlerError(
                f"{name} asks for {extra[0].name!r}: a handler is (call, data) or (call)"
            )
    if not positional:
        raise HandlerError(f"{name} takes no call: a handler is (call, data) or (call)")
    return positional[:2]


def _data_type(function: Callable[..., Any], parameter: str, name: str) -> Any:
    if isinstance(function, partial):
        return _data_type(function.func, parameter, name)
    target: Any = function if inspect.isroutine(function) else type(function).__call__
    annotation = _own_annotations(target).get(parameter, inspect.Parameter.empty)
    if annotation is inspect.Parameter.empty:
        raise HandlerError(
            f"{name} does not say the type of {parameter!r}: annotate it with a msgspec Struct,"
            " any type msgspec decodes, str, bytes, msgspec.Raw or Any"
        )
    return _resolve(annotation, target, f"{name} says that {parameter!r} is a {annotation}")


def _resolve(annotation: Any, target: Any, what: str) -> Any:
    """The type that an annotation names; it may be a string, or have strings in it.

    Only this annotation is resolved: that of `call` may be imported for the type checker only.
    """
    alone = SimpleNamespace(__annotations__={"data": annotation})
    try:
        namespace = inspect.unwrap(target).__globals__
        return typing.get_type_hints(alone, namespace, namespace, include_extras=True)["data"]
    except NameError as error:
        raise HandlerError(
            f"{what}, and there is no such name where it is defined ({error});"
            " define the type in the module"
        ) from error
    except Exception as error:
        raise HandlerError(
            f"{what}, and that is no type ({type(error).__name__}: {error})"
        ) from error


def _own_annotations(target: Any) -> dict[str, Any]:
    return dict(getattr(inspect.unwrap(target), "__annotations__", {}))
