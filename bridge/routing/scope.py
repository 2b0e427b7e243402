"""What stands around the handlers of a router: its lifespan, its middleware, and whose it is in."""

from typing import Any

from bridge.routing.errors import HandlerError
from bridge.routing.lifespan import Lifespan, compile_lifespan
from bridge.routing.middleware import Middleware, check_middleware
from bridge.telemetry.exceptions import qualified_name


class Scope:
    """That of one router. It is asked when a worker is made, so its parts may come in any order."""

    def __init__(self, router: str) -> None:
        """`router`: as people know it."""
        self.router = router
        self.lifespan: Lifespan | None = None
        self.middleware: list[Middleware] = []
        """The first one is the outermost."""
        self.outer: Scope | None = None
        """That of the router that includes this one."""

    def set_lifespan(self, function: Any) -> None:
        """Raises :class:`HandlerError` if there is one, or for what could not be one."""
        lifespan = compile_lifespan(function)
        if self.lifespan is not None:
            raise HandlerError(
                f"{lifespan.name} and {self.lifespan.name} are both the lifespan of {self.router}:"
                " enter one within the other, or include a router that has its own"
            )
        self.lifespan = lifespan

    def add_middleware(self, function: Any) -> None:
        """Raises :class:`HandlerError` for what is none, or is there already."""
        check_middleware(function)
        if function in self.middleware:
            raise HandlerError(
                f"{qualified_name(function)} is a middleware of {self.router} already"
            )
        self.middleware.append(function)

    def put_in(self, outer: "Scope") -> None:
        """Stand within another from now on.

        Raises :class:`HandlerError` if this one does already, or if it would be within itself.
        """
        if self.outer is not None:
            raise HandlerError(
                f"{self.router} is included in {self.outer.router} already: once is enough"
            )
        if self in outer.chain():
            raise HandlerError(f"{self.router} cannot be included in itself")
        self.outer = outer

    def check_open(self, handler: str) -> None:
        """Raises :class:`HandlerError` for a handler that comes after the inclusion."""
        if self.outer is not None:
            raise HandlerError(
                f"{handler} comes too late: {self.router} is included already; include it below"
                " its handlers"
            )

    def chain(self) -> list["Scope"]:
        """Those that this one stands in and itself, the outermost first."""
        return [*(self.outer.chain() if self.outer else ()), self]
