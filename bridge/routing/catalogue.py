"""What a worker handles, as values: for the people who run it, and for tools."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from bridge.routing.handler import Handler
from bridge.routing.router import Router
from bridge.telemetry.exceptions import qualified_name


class HandledMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A handler, and the messages that it is for."""

    message_id: str | None
    """As registered; ``""``: requests without a messageId; None: all that have no other handler."""
    data: str
    """The type of its data as one would write it; ``-``: it takes no data."""
    kind: Literal["async", "thread"]
    """Where it runs: on the event loop, or in a thread."""
    timeout: float
    """Seconds that it may take."""
    handler: str
    """Module and name of the function."""

    @property
    def message(self) -> str:
        """The messageId, or in its place which requests are meant."""
        if self.message_id is None:
            return "(default)"
        return self.message_id or "(no messageId)"


class HandledVendor(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor, and the messages that its router has handlers for."""

    vendor_id: str
    """As registered."""
    messages: tuple[HandledMessage, ...]
    """In the order of registration, the default handler last."""
    threads: int
    """Plain ``def`` handlers that run at a time."""
    lifespans: tuple[str, ...] = ()
    """Module and name of each, in the order in which a worker enters them."""
    middleware: tuple[str, ...] = ()
    """Module and name of each, the outermost first; some may be around some handlers only."""


def catalogue(routers: Iterable[Router]) -> tuple[HandledVendor, ...]:
    """What these routers handle, in their order."""
    return tuple(map(_vendor, routers))


def _vendor(router: Router) -> HandledVendor:
    handlers = tuple(router.handlers())
    scopes = {
        scope: None
        for start in (router.scope, *(handler.scope for _, handler in handlers))
        for scope in (start.chain() if start else ())
    }
    return HandledVendor(
        vendor_id=router.vendor_id,
        messages=tuple(_message(*entry) for entry in handlers),
        threads=router.threads,
        lifespans=tuple(scope.lifespan.name for scope in scopes if scope.lifespan),
        middleware=tuple(qualified_name(each) for scope in scopes for each in scope.middleware),
    )


def _message(message_id: str | None, handler: Handler) -> HandledMessage:
    return HandledMessage(
        message_id=message_id,
        data=handler.type_name,
        kind="async" if handler.is_async else "thread",
        timeout=handler.timeout,
        handler=handler.name,
    )
