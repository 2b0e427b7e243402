"""What a function's annotations say, where they can be resolved."""

import inspect
import typing
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

UNKNOWN: Final = object()
"""Of an annotation that is not there, says nothing, or cannot be resolved."""


def annotated(function: Any) -> Any:
    """What has the annotations of a function, of an object that can be called, or of a partial."""
    if isinstance(function, partial):
        return annotated(function.func)
    return function if inspect.isroutine(function) else type(function).__call__


def resolved(annotation: Any, target: Any) -> Any:
    """The type that an annotation names; it may be a string, or have strings in it.

    Only this annotation is resolved: others may be imported for the type checker only. Raises
    whatever it raises, for it runs as code.
    """
    alone = SimpleNamespace(__annotations__={"it": annotation})
    namespace = inspect.unwrap(target).__globals__
    return typing.get_type_hints(alone, namespace, namespace, include_extras=True)["it"]


def own_annotations(target: Any) -> dict[str, Any]:
    """Those of a function that :func:`annotated` gives, as they are written."""
    return dict(getattr(inspect.unwrap(target), "__annotations__", {}))


def said_of(function: Callable[..., Any], what: str) -> Any:
    """The type of a parameter or, of ``return``, of what it returns; :data:`UNKNOWN`."""
    target = annotated(function)
    annotation = own_annotations(target).get(what, UNKNOWN)
    if annotation is UNKNOWN:
        return UNKNOWN
    try:
        return resolved(annotation, target)
    except Exception:  # noqa: BLE001 - an annotation runs as code, and may be for the checker only
        return UNKNOWN
