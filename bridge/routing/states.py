"""The types of states: what handlers say that they take, and lifespans that they give.

Nothing is said of a type that is not annotated, or is no class: then :data:`UNKNOWN` stands for it.
"""

import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
)
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from bridge.request.incoming import Call
from bridge.routing.annotations import UNKNOWN, said_of

_GIVING: Final = (AsyncIterator, AsyncGenerator, AsyncIterable, AbstractAsyncContextManager)


def state_of_call(function: Callable[..., Any], parameter: str) -> Any:
    """The ``State`` of a parameter that is annotated with ``Call[State]``."""
    annotation = said_of(function, parameter)
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
    if UNKNOWN in {given, taken}:
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
    return kind if isinstance(kind, type) and kind not in {Any, object} else UNKNOWN
