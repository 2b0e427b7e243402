"""What a router opens before its first request and closes after its last: its lifespan.

It is an async function with one ``yield``, or any function that returns an async context manager.
Its value is the state of the handlers: ``call.state``.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import msgspec

from bridge.routing.annotations import UNKNOWN
from bridge.routing.errors import HandlerError
from bridge.routing.states import state_given, state_taken
from bridge.telemetry.exceptions import qualified_name

LifespanT = TypeVar(
    "LifespanT", bound=Callable[..., AbstractAsyncContextManager[Any] | AsyncIterator[Any]]
)

FORM = "a lifespan is async def () with one yield, or returns an async context manager"


class Lifespan(msgspec.Struct, frozen=True, eq=False):
    """A lifespan, ready to be entered."""

    enter: Callable[..., AbstractAsyncContextManager[Any]]
    name: str
    """Module and name, for people."""
    takes_outer: bool
    """Whether it is given the state of the router that includes its own."""
    takes: Any
    """The type of that state, if it says one; :data:`UNKNOWN`."""
    gives: Any
    """The type of its own, likewise."""


def compile_lifespan(function: Any) -> Lifespan:
    """Raises :class:`HandlerError` for a function that could not be one."""
    name = qualified_name(function)
    if not callable(function):
        raise HandlerError(f"{name} is not a function: {FORM}")
    inner = inspect.unwrap(function)
    if inspect.isgeneratorfunction(inner):
        raise HandlerError(f"{name} is not async: {FORM}")
    if inspect.iscoroutinefunction(function):
        raise HandlerError(f"{name} has no yield: {FORM}")
    asked = _asked_for(function, name)
    enter = asynccontextmanager(function) if inspect.isasyncgenfunction(function) else function
    takes = UNKNOWN if asked is None else state_taken(function, asked)
    return Lifespan(enter, name, asked is not None, takes, state_given(function))


def _asked_for(function: Any, name: str) -> str | None:
    """The parameter that has to be given, if there is one."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    needed = [
        each
        for each in parameters
        if each.default is each.empty and each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
    ]
    if len(needed) > 1 or any(each.kind is each.KEYWORD_ONLY for each in needed):
        raise HandlerError(
            f"{name} asks for {needed[-1].name!r}: a lifespan takes nothing or, that of a router"
            " that is included, the state of the one that includes it"
        )
    return needed[0].name if needed else None
