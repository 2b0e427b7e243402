"""The handlers of one worker: bound to its states, and with their middleware around them.

A router is a value of its module, and several workers may have it; a state belongs to one worker.
All is decided when a worker is made. A handler with nothing around it stays what it is.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from types import NoneType
from typing import Any

import msgspec

from bridge.request.state import NO_STATE, Held
from bridge.routing.annotations import UNKNOWN
from bridge.routing.data import type_name
from bridge.routing.errors import HandlerError
from bridge.routing.handler import Handler
from bridge.routing.lifespan import Lifespan
from bridge.routing.middleware import around, named_as, surrounded
from bridge.routing.scope import Scope
from bridge.routing.states import fits, state_of_call


class BoundLifespan:
    """A lifespan, and where a worker keeps its state."""

    def __init__(self, lifespan: Lifespan, router: str, outer: Held[Any] | None) -> None:
        self.name = lifespan.name
        self.router = router
        self.gives = lifespan.gives
        """The type of the state, if it says one."""
        self.held: Held[Any] = Held()
        self.methods: list[Handler] = []
        """Handlers that are methods of its state."""
        self._lifespan = lifespan
        self._outer = outer

    def open(self) -> AbstractAsyncContextManager[Any]:
        """The context manager, not entered yet. Raises what the function raises."""
        if self._outer is not None and self._lifespan.takes_outer:
            return self._lifespan.enter(self._outer.value)
        return self._lifespan.enter()

    def hold(self, value: Any) -> None:
        """Keep the state. Raises :class:`HandlerError` if handlers are methods of another class."""
        for handler in self.methods:
            owner, _, name = handler.name.rpartition(".")
            classes = (f"{each.__module__}.{each.__qualname__}" for each in type(value).__mro__)
            if not owner.endswith("<locals>") and owner not in classes:
                raise HandlerError(
                    f"it gives a {type(value).__qualname__}, and the handler {name} is a method of"
                    f" {owner}"
                )
        self.held.value = value


class Binding:
    """What a worker has made of the handlers of its routers."""

    def __init__(self, scopes: Iterable[Scope], handlers: Iterable[Handler]) -> None:
        """Raises :class:`HandlerError` for a method, or a lifespan, that would lack its state."""
        self.lifespans: list[BoundLifespan] = []
        """Those that are to be entered, in this order."""
        self._by_scope: dict[Scope, BoundLifespan | None] = {}
        self._bound: dict[Handler, Handler] = {}
        for scope in scopes:
            self._lifespan(scope)
        for handler in handlers:
            self.bound(handler)

    def bound(self, handler: Handler) -> Handler:
        """What this worker calls in place of a handler of a router."""
        found = self._bound.get(handler)
        if found is None:
            found = self._bound[handler] = self._bind(handler)
        return found

    def _lifespan(self, scope: Scope | None) -> BoundLifespan | None:
        """The innermost lifespan that a scope stands in."""
        if scope is None:
            return None
        if scope not in self._by_scope:
            outer = self._lifespan(scope.outer)
            self._by_scope[scope] = outer
            lifespan = scope.lifespan
            if lifespan is not None:
                if lifespan.takes_outer and outer is None:
                    raise HandlerError(
                        f"{lifespan.name} asks for the state of a router that includes"
                        f" {scope.router}, and there is none with a lifespan"
                    )
                if outer is not None and not fits(outer.gives, lifespan.takes):
                    raise HandlerError(
                        f"{lifespan.name} takes the state {type_name(lifespan.takes)}, and"
                        f" {outer.name} gives {type_name(outer.gives)}"
                    )
                held = None if outer is None else outer.held
                made = BoundLifespan(lifespan, scope.router, held)
                self.lifespans.append(made)
                self._by_scope[scope] = made
        return self._by_scope[scope]

    def _bind(self, handler: Handler) -> Handler:
        scope: Scope | None = handler.scope
        if scope is None:
            return handler
        lifespan = self._lifespan(scope)
        held: Held[Any] = NO_STATE if lifespan is None else lifespan.held
        function = handler.function
        if handler.is_method:
            if lifespan is None:
                raise HandlerError(
                    f"{handler.name} is a method, and {scope.router} has no lifespan that makes"
                    " its object"
                )
            lifespan.methods.append(handler)
            function = _method(function, held)
        middleware = [each for part in scope.chain() for each in part.middleware]
        if not middleware:  # which may give it another state
            _check_state(handler, scope, lifespan)
        if held is NO_STATE and not middleware:
            return handler
        if middleware and handler.is_async:
            function = surrounded(function, middleware, takes_data=handler.read_data is not None)
        in_thread = middleware and not handler.is_async
        return msgspec.structs.replace(
            handler,
            function=function,
            state=held,
            around=around(middleware) if in_thread else None,
        )


def _check_state(handler: Handler, scope: Scope, lifespan: BoundLifespan | None) -> None:
    """Raise :class:`HandlerError` if the handler says that its calls have another state."""
    taken = state_of_call(handler.function, is_method=handler.is_method)
    if taken is UNKNOWN or taken is NoneType:
        return
    if lifespan is None:
        raise HandlerError(
            f"{handler.name} takes a Call[{type_name(taken)}], and {scope.router} has no lifespan"
            " that makes one: write @router.lifespan, or take a Call"
        )
    if not fits(lifespan.gives, taken):
        raise HandlerError(
            f"{handler.name} takes a Call[{type_name(taken)}], and {lifespan.name} gives"
            f" {type_name(lifespan.gives)}"
        )


def _method(function: Callable[..., Any], held: Held[Any]) -> Callable[..., Any]:
    def method(*arguments: Any) -> Any:
        return function(held.value, *arguments)

    return named_as(method, function)
