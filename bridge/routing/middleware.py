"""Functions around a handler: ``async def timing(call, data, call_next)``.

They are joined to one function when a worker is made, so a handler without any costs nothing.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial, update_wrapper
from types import NoneType
from typing import Any, TypeVar

from bridge.request.incoming import Call
from bridge.routing.annotations import said_of
from bridge.routing.errors import HandlerError
from bridge.telemetry.exceptions import qualified_name

CallNext = Callable[[Call[Any], Any], Awaitable[Any]]
"""What a middleware calls to go on: the next one or, from the last, the handler.

It is given the call and the data, and what it returns is awaited: the value that the handler
returned. What the handler raised is raised there.
"""

Middleware = Callable[[Call[Any], Any, CallNext], Coroutine[Any, Any, Any]]
"""A function around a handler."""

MiddlewareT = TypeVar("MiddlewareT", bound=Middleware)

FORM = "a middleware is async def (call, data, call_next)"


def check_middleware(function: Any) -> None:
    """Raises :class:`HandlerError` for a function that could not stand around a handler."""
    name = qualified_name(function)
    if not callable(function) or isinstance(function, type):
        raise HandlerError(f"{name} is not a function: {FORM}")
    kind: Any = type(function)
    if not any(map(inspect.iscoroutinefunction, (function, kind.__call__))):
        raise HandlerError(f"{name} is not an async def: {FORM}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise HandlerError(f"the parameters of {name} are not known ({error}): {FORM}") from error
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise HandlerError(f"{name} cannot be given three arguments ({error}): {FORM}") from None
    if said_of(function, "return") is NoneType:
        raise HandlerError(
            f"{name} says that it returns None, and what it returns is the answer: write -> Any,"
            " and return await call_next(call, data)"
        )


def _step(middleware: Middleware, call_next: CallNext) -> Callable[[Call[Any], Any], Any]:
    def step(call: Call[Any], data: Any) -> Any:
        return middleware(call, data, call_next)

    return step


def surrounded(
    function: Callable[..., Any], middleware: Sequence[Middleware], *, takes_data: bool
) -> Callable[..., Any]:
    """An ``async def`` handler with these around it, the first one outermost."""
    reached: CallNext = function if takes_data else lambda call, _: function(call)
    for each in reversed(middleware):
        reached = _step(each, reached)
    if takes_data:
        return named_as(reached, function)
    return named_as(lambda call: reached(call, None), function)


def around(middleware: Sequence[Middleware]) -> Middleware:
    """One function in place of these, the first one outermost: for what is called in a thread."""
    if len(middleware) == 1:
        return middleware[0]
    first, *others = middleware

    def run(call: Call[Any], data: Any, call_next: CallNext) -> Coroutine[Any, Any, Any]:
        for each in reversed(others):
            call_next = _step(each, call_next)
        return first(call, data, call_next)

    return run


def named_as(wrapper: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """`wrapper`, which logs and tracebacks take for `function`."""
    named: Any = function
    while isinstance(named, partial):
        named = named.func
    update_wrapper(wrapper, named, updated=())
    if not hasattr(named, "__qualname__"):  # an object that can be called
        wrapper.__module__, _, wrapper.__qualname__ = "", "", qualified_name(named)
    wrapper.__dict__["__wrapped__"] = function
    return wrapper
