"""The types of states: what handlers say that they take, and lifespans that they give.

Nothing is said of a type that is not annotated, or is no class: then :data:`UNKNOWN` stands for it.
"""

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from bridge.request.incoming import Call
from bridge.routing.annotations import UNKNOWN, said_of

_GIVING: Final = (AsyncIterator, AsyncGenerator, AsyncIterable, AbstractAsyncContextManager)


def state_of_call(handler: Callable[..., Any], *, is_method: bool) -> Any:
    """The ``State`` of a handler whose call is annotated with ``Call[State]``.

    `is_method`: whether it takes its object first.
    """
    try:
        parameters = list(inspect.signature(handler).parameters)[is_method:]
    except (TypeError, ValueError):
        return UNKNOWN
    annotation = said_of(handler, parameters[0]) if parameters else UNKNOWN
    return _first_argument(annotation) if typing.get_origin(annotation) is Call else UNKNOWN


def state_given(lifespan: Callable[..., Any]) -> Any:
    """The ``State`` of a function that is annotated with ``-> AsyncIterator[State]``, or alike."""
    annotation = said_of(lifespan, "return")
    return _first_argument(annotation) if typing.get_origin(annotation) in _GIVING else UNKNOWN


def state_taken(lifespan: Callable[..., Any], parameter: str) -> Any:
    """The ``State`` of the including router, as a lifespan says that it takes it."""
    return _as_class(said_of(lifespan, parameter))


def fits(given: Any, taken: Any) -> bool:
    """Whether a state of one type may be one of the other: false only if that is sure."""
    if given is UNKNOWN or taken is UNKNOWN:
        return True
    try:
        return issubclass(given, taken) or issubclass(taken, given)
    except TypeError:  # a protocol, for example
        return True


def _first_argument(annotation: Any) -> Any:
    arguments = typing.get_args(annotation)
    return _as_class(arguments[0]) if arguments else UNKNOWN


def _as_class(annotation: Any) -> Any:
    kind = typing.get_origin(annotation) or annotation
    says_nothing = not isinstance(kind, type) or kind is Any or kind is object
    return UNKNOWN if says_nothing else kind
