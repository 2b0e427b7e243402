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
from collections.abc import Callable
from typing import Any

import msgspec

from bridge.request.retry import RetryPolicy
from bridge.request.state import NO_STATE, Held
from bridge.routing.data import DataReader, data_reader, reads_all, type_name
from bridge.routing.errors import HandlerError
from bridge.routing.middleware import Middleware
from bridge.routing.scope import Scope
from bridge.routing.signature import (
    check_answer,
    check_call,
    positional_parameters,
    type_of_data,
)
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
    scope: Scope | None = None
    """What stands around it, for whoever makes a worker of it."""
    is_method: bool = False
    """Whether `function` takes the state of its lifespan first; not any more, once it is bound."""
    state: Held[Any] = NO_STATE
    """Where its calls find their state."""
    around: Middleware | None = None
    """The middleware of a function that is called in a thread, for `function` has none then; None:
    there is none, or `function` has it."""
    reads_all: bool = False
    """Whether `read_data` finds every fault in the syntax of the data."""

    @property
    def type_name(self) -> str:
        """The type of its data as one would write it; ``-``: it takes no data."""
        return "-" if self.read_data is None else type_name(self.data_type)


def compile_handler(
    function: Callable[..., Any], timeout: float, retry: RetryPolicy | None = None
) -> Handler:
    """Examine a function, and build the reader of its data. `timeout`: seconds that it may take.

    Raises :class:`HandlerError` for a function that could not be called with a request, or whose
    answer could not be sent.
    """
    name = qualified_name(function)
    _check_kind(function, name)
    check_timeout(timeout, name)
    check_retry(retry, name)
    kind: Any = type(function)
    forms = (function, kind.__call__)  # a function, or an object that can be called
    if any(inspect.isasyncgenfunction(form) or inspect.isgeneratorfunction(form) for form in forms):
        raise HandlerError(
            f"{name} is a generator: a handler returns one answer, so write return in place of"
            " yield"
        )
    parameters = positional_parameters(function, name)
    is_async = any(map(inspect.iscoroutinefunction, forms))
    check_call(function, parameters, name)
    check_answer(function, name, is_async=is_async)
    if len(parameters) == 1:
        return Handler(function, name, inspect.Parameter.empty, None, is_async, timeout, retry)
    data_type = type_of_data(function, parameters[1].name, name)
    read_data = data_reader(data_type, parameters[1].default, name)
    return Handler(
        function,
        name,
        data_type,
        read_data,
        is_async,
        timeout,
        retry,
        reads_all=reads_all(data_type),
    )


def _check_kind(function: Any, name: str) -> None:
    if isinstance(function, type):
        raise HandlerError(
            f"{name} is a class: a handler is a function, or an object of a class with __call__"
        )
    if isinstance(function, staticmethod | classmethod):
        kind = type(function).__name__
        raise HandlerError(
            f"{name} is a {kind} within its class: register it below the class, by its name there"
        )
    if not callable(function):
        raise HandlerError(f"{name} is not a function, so it cannot handle messages")


def check_timeout(timeout: Any, name: str) -> None:
    """Raise :class:`HandlerError` unless it is a number of seconds. `name`: the handler's."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise HandlerError(f"the timeout of {name} is a number of seconds, not {timeout!r:.80}")
    if not timeout > 0:  # not `timeout <= 0`, which lets NaN pass
        raise HandlerError(f"the timeout of {name} must be more than 0 seconds, not {timeout}")


def check_retry(retry: Any, name: str) -> None:
    """Raise :class:`HandlerError` unless it is a policy, or None. `name`: whose it is."""
    if retry is not None and not isinstance(retry, RetryPolicy):
        example = f"RetryPolicy(attempts={retry})" if type(retry) is int else "RetryPolicy()"
        raise HandlerError(
            f"the retry of {name} is a RetryPolicy: write retry={example}, not {retry!r:.80}"
        )
