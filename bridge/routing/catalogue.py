"""What a worker handles, as values: for the people who run it, and for tools."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from bridge.routing.handler import Handler
from bridge.routing.router import Router


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


def catalogue(routers: Iterable[Router]) -> tuple[HandledVendor, ...]:
    """What these routers handle, in their order."""
    return tuple(
        HandledVendor(
            vendor_id=router.vendor_id,
            messages=tuple(_message(*entry) for entry in router.handlers()),
            threads=router.threads,
        )
        for router in routers
    )


def _message(message_id: str | None, handler: Handler) -> HandledMessage:
    return HandledMessage(
        message_id=message_id,
        data=handler.type_name,
        kind="async" if handler.is_async else "thread",
        timeout=handler.timeout,
        handler=handler.name,
    )
