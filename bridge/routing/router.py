"""Which handler a request goes to: vendor → message → handler.

vendorId and messageId match without regard to the case of ASCII letters: OCPP 1.6 defines both as
case-insensitive (§3.1, CiString), and OCPP 2.x says nothing.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, overload

from msgspec.structs import replace

from bridge.ocpp import UNKNOWN_MESSAGE, UNKNOWN_VENDOR, CSMSHandler
from bridge.ocpp.data_transfer import MESSAGE_ID_MAX_LENGTH, VENDOR_ID_MAX_LENGTH
from bridge.request.incoming import Call
from bridge.request.outcome import Reply
from bridge.request.retry import RetryPolicy
from bridge.routing.binding import Binding
from bridge.routing.errors import HandlerError
from bridge.routing.handler import Handler, check_retry, check_timeout, compile_handler
from bridge.routing.lifespan import LifespanT
from bridge.routing.middleware import MiddlewareT
from bridge.routing.protocols import HandlerFunction, HandlerMethod, Registering, RegisteringMethod
from bridge.routing.scope import Scope
from bridge.telemetry.exceptions import qualified_name

DEFAULT_TIMEOUT: Final = 20.0
"""Seconds that a handler may take. The least patient CSMS in the field gives up after 20 s
(CitrineOS), OCPP libraries after 30 s."""

THREADS: Final = 8
"""Plain ``def`` handlers of one vendor that run at a time. Each is a thread, which mostly waits for
I/O."""


PARTITIONS: Final = 64
"""Queues of one vendor at most. Each is a Raft group of its own at the broker, and a consumer in
each worker."""


def fold(text: str) -> str:
    """`text` with its ASCII letters in lower case, and nothing else changed."""
    return (
        text.lower() if text.isascii() else "".join(c.lower() if c.isascii() else c for c in text)
    )


class Router:
    """The handlers of one vendor.

    A handler is a function ``(call, data)`` or ``(call)``. It is registered for one messageId
    (:meth:`on`), or for all that have no other handler (:meth:`default`, :meth:`mount`). An
    ``async def`` runs on the event loop, a plain ``def`` in a thread. The annotation of `data` is
    the type that the data is decoded to (:mod:`bridge.routing.handler` has the table); what the
    function returns is the data of the answer, whose status is ``Accepted``.

    >>> router = Router("com.acme")
    >>> @router.on("SetTariff")
    ... async def set_tariff(call: Call, data: Tariff) -> TariffAck: ...
    """

    def __init__(
        self,
        vendor_id: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        prefetch: int | None = None,
        concurrency: int | None = None,
        threads: int = THREADS,
        rate: float | None = None,
        partitions: int = 1,
        ordered: bool = False,
    ) -> None:
        """`vendor_id`: at most 255 characters (OCPP 1.6 §6.17); the case of letters does not count.

        `timeout`: seconds that each handler may take. `retry`: when requests are tried again; None:
        as the worker says. `prefetch`: requests of this vendor in hand at most, `concurrency`:
        handlers that run at a time; None: as the worker says. `threads`: plain ``def`` handlers
        that run at a time; more wait their turn. `rate`: requests a second that a worker begins at
        most, it need not be whole; what is beyond waits in the queue; None: no bound.

        `partitions`: queues that the vendor's requests are spread over by station, at most 64;
        `prefetch` is shared out among them. `ordered`: requests of a station are handled one at a
        time, in the order of their arrival, whichever worker handles them (``docs/scaling.md`` says
        what is promised). Both are for the native dialect, and for all workers of the vendor alike.

        Raises :class:`HandlerError` for a vendorId that no station could send, and for a number
        below 1 or too high (`rate`: that is not above 0).
        """
        if type(vendor_id) is not str or len(vendor_id) > VENDOR_ID_MAX_LENGTH:
            text = f"a vendorId is a string of at most {VENDOR_ID_MAX_LENGTH} characters"
            raise HandlerError(f"{text}, not {vendor_id!r:.80}")
        numbers: tuple[tuple[str, Any], ...] = (
            ("prefetch", prefetch),
            ("concurrency", concurrency),
            ("threads", threads),
            ("partitions", partitions),
        )
        for name, value in numbers:
            if value is not None and type(value) is not int:
                raise HandlerError(
                    f"{name} of Router({vendor_id!r}) is a whole number, not {value!r:.80}"
                )
            if value is not None and value < 1:
                raise HandlerError(
                    f"{name} of Router({vendor_id!r}) must be at least 1, not {value}"
                )
        check_timeout(timeout, f"Router({vendor_id!r})")
        check_retry(retry, f"Router({vendor_id!r})")
        if rate is not None and not (type(rate) in {int, float} and 0 < rate < math.inf):
            raise HandlerError(f"rate of Router({vendor_id!r}) must be above 0, not {rate!r:.80}")
        if partitions > PARTITIONS:
            raise HandlerError(
                f"partitions of Router({vendor_id!r}) must be at most {PARTITIONS}, "
                f"not {partitions}"
            )
        self.vendor_id = vendor_id
        self.timeout = timeout
        self.retry = retry
        self.prefetch = prefetch
        self.concurrency = concurrency
        self.threads = threads
        self.rate = rate
        self.partitions = partitions
        self.ordered = ordered
        self.scope = Scope(f"Router({vendor_id!r})")
        self._handlers: dict[str, Handler] = {}
        self._spellings: dict[str, str] = {}
        self._default: Handler | None = None

    def on(
        self,
        message_id: str | None = None,
        *,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> Registering:
        """Register a handler for a messageId or, without one, for the requests that carry none.

        `message_id`: at most 50 characters (OCPP 1.6 §6.17); the case of letters does not count.
        `timeout`: seconds that the handler may take; `retry`: when its requests are tried again,
        where the exceptions that the router's policy names still mean Retry; None: as the router
        says. The function itself stays as it is. Raises :class:`HandlerError` if the messageId has
        a handler, if the function could not be called with a request, or its answer not be sent.
        """
        spelling = _checked(message_id, "on")

        def register(function: HandlerFunction, /) -> HandlerFunction:
            self._add(spelling, self._compile(function, timeout, retry))
            return function

        return register

    @overload
    def default(self, function: HandlerFunction, /) -> HandlerFunction: ...

    @overload
    def default(
        self,
        function: None = None,
        /,
        *,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> Registering: ...

    def default(
        self,
        function: Any = None,
        /,
        *,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> Any:
        """Register the handler of all messages of this vendor that have no other.

        ``call.message_id`` tells which one came. `timeout` and `retry`: as in :meth:`on`. Raises
        :class:`HandlerError` if there is a default handler, or if the function could not be called.
        """
        if isinstance(function, str):
            raise HandlerError(
                f"the default handler has no messageId: write @router.on({function!r:.80}), or"
                " @router.default alone"
            )

        def register(function: Any, /) -> Any:
            self._set_default(self._compile(function, timeout, retry))
            return function

        return register if function is None else register(function)

    def mount(
        self,
        handler: CSMSHandler,
        *,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Have a :class:`~bridge.ocpp.CSMSHandler` answer all messages that have no other handler.

        It is the default handler; `timeout`, `retry` and errors are those of :meth:`default`.
        """
        signature = "on_data_transfer(charging_station_id, request)"
        if isinstance(handler, type):
            raise HandlerError(
                f"mount an object, not its class: router.mount({handler.__name__}())"
            )
        method = getattr(handler, "on_data_transfer", None)
        if not callable(method):
            raise HandlerError(f"{type(handler).__name__} has no method {signature}")
        if not _takes_two(method):
            raise HandlerError(f"{qualified_name(method)} must be {signature}")
        function = _with_station_and_request(method)
        self._set_default(self._compile(function, timeout, retry))

    def _compile(
        self, function: Callable[..., Any], timeout: float | None, retry: RetryPolicy | None
    ) -> Handler:
        self.scope.check_open(qualified_name(function))
        handler = compile_handler(
            function, self.timeout if timeout is None else timeout, _joined(retry, self.retry)
        )
        return replace(handler, scope=self.scope)

    def method(
        self,
        message_id: str | None = None,
        *,
        default: bool = False,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> RegisteringMethod:
        """Register a method of the object that the :meth:`lifespan` gives, within its class.

        The method is ``(self, call, data)`` or ``(self, call)``. `default`: it handles all messages
        that have no other handler; all else is as in :meth:`on`.
        """
        if default and message_id is not None:
            raise HandlerError(
                f"router.method({message_id!r:.80}, default=True): a default handler has no"
                " messageId"
            )

        spelling = _checked(message_id, "method")

        def register(function: HandlerMethod, /) -> HandlerMethod:
            # Without `self`, it is a handler like any other.
            plain: Callable[..., Any] = function
            handler = self._compile(partial(plain, None), timeout, retry)
            handler = replace(handler, function=function, is_method=True)
            if default:
                self._set_default(handler)
            else:
                self._add(spelling, handler)
            return function

        return register

    def lifespan(self, function: LifespanT) -> LifespanT:
        """Open something before the first request, and close it after the last: a decorator.

        `function`: an async function with one ``yield``, or one that returns an async context
        manager. Each worker enters it, in its event loop; its value is ``call.state`` there. That
        of a router that is included may take one argument, the state of the one that includes it.
        Raises :class:`HandlerError` if there is one already.
        """
        self.scope.set_lifespan(function)
        return function

    def middleware(self, function: MiddlewareT) -> MiddlewareT:
        """Put ``async def (call, data, call_next)`` around all handlers: a decorator.

        It goes on with ``await call_next(call, data)``, which gives what the handler returns. The
        first one is the outermost. Raises :class:`HandlerError` for a function that is none.
        """
        self.scope.add_middleware(function)
        return function

    def include(self, other: "Router") -> None:
        """Take in all handlers of another router of the same vendor, with what is around them.

        They run within the lifespan and the middleware of this router, and then those of their own.
        Their time-outs stay. Where neither they nor `other` have a retry policy, this router's
        counts; where they do, the exceptions that it names mean Retry, too. Raises
        :class:`HandlerError` for a router of another vendor, a message that both handle, one that
        is included already, and one with settings of a queue, which are for the router that a
        worker is given.
        """
        if not isinstance(other, Router):
            raise HandlerError(f"{type(other).__name__} is not a Router, so it cannot be included")
        if fold(other.vendor_id) != fold(self.vendor_id):
            raise HandlerError(
                f"{other.scope.router} cannot be included in {self.scope.router}: it is for another"
                " vendor, whose requests have a queue of their own; give the worker both"
            )
        for name in _OF_THE_QUEUE:
            if getattr(other, name) != _OF_THE_QUEUE[name]:
                raise HandlerError(
                    f"{name}={getattr(other, name)!r} is for the queue of a vendor: say it of the"
                    f" {self.scope.router} that includes others, not of one that is included"
                )
        other.scope.put_in(self.scope)
        for spelling, handler in other.handlers():
            taken = replace(handler, retry=_joined(handler.retry, self.retry))
            if spelling is None:
                self._set_default(taken)
            else:
                self._add(spelling, taken)

    def _add(self, spelling: str, handler: Handler) -> None:
        key = fold(spelling)
        other = self._handlers.get(key)
        if other is not None:
            what = f"messageId {spelling!r}" if spelling else "requests without messageId"
            raise HandlerError(
                f"{handler.name} and {other.name} both handle {what} of vendor"
                f" {self.vendor_id!r} (case does not count)"
            )
        self._handlers[key] = handler
        self._spellings[key] = spelling

    def _set_default(self, handler: Handler) -> None:
        if self._default is not None:
            raise HandlerError(
                f"{handler.name} and {self._default.name} are both the default handler of vendor"
                f" {self.vendor_id!r}"
            )
        self._default = handler

    def resolve(self, message_id: str | None) -> Handler | None:
        """The handler for a messageId, where None and "" are the same; None: there is none."""
        return self._handlers.get(fold(message_id or "")) or self._default

    def handlers(self) -> Iterator[tuple[str | None, Handler]]:
        """Every handler with the messageId it is for, in the order of registration.

        ``""``: for requests without a messageId; None: the default handler, which comes last.
        """
        for key, handler in self._handlers.items():
            yield self._spellings[key], handler
        if self._default is not None:
            yield None, self._default

    def __repr__(self) -> str:
        default = self._default is not None
        return f"<Router {self.vendor_id!r} messages={len(self._handlers)} default={default}>"


_OF_THE_QUEUE: Final[dict[str, Any]] = {
    "prefetch": None,
    "concurrency": None,
    "threads": THREADS,
    "rate": None,
    "partitions": 1,
    "ordered": False,
}
"""What a router says of its vendor's queue, and what it says by default."""


def _checked(message_id: Any, decorator: str) -> str:
    """A messageId as it is registered. `decorator`: the method of a router that is given it."""
    if callable(message_id):
        raise HandlerError(
            f"write @router.{decorator}() with parentheses above {qualified_name(message_id)}"
        )
    if not isinstance(message_id, str | None):
        raise HandlerError(f"a messageId is a string, not {message_id!r:.80}")
    spelling = message_id or ""
    if len(spelling) > MESSAGE_ID_MAX_LENGTH:
        raise HandlerError(
            f"a messageId has at most {MESSAGE_ID_MAX_LENGTH} characters: {spelling!r}"
        )
    return spelling


def _joined(own: RetryPolicy | None, routers: RetryPolicy | None) -> RetryPolicy | None:
    """A handler's policy: its own, with the exceptions of its router's; or else its router's."""
    if not isinstance(own, RetryPolicy) or routers is None:
        return routers if own is None else own
    return replace(own, on=tuple(dict.fromkeys((*own.on, *routers.on))))


def _takes_two(method: Callable[..., Any]) -> bool:
    """Whether it can be called with two arguments, or is made so that nobody can say."""
    try:
        inspect.signature(method).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _with_station_and_request(method: Callable[..., Any]) -> Callable[[Call], Any]:
    """The method of a CSMSHandler as a handler: it is given the station and the whole request."""

    async def waiting(call: Call) -> Any:
        return await method(call.station_id, call.request)

    def plain(call: Call) -> Any:
        return method(call.station_id, call.request)

    function: Callable[[Call], Any] = waiting if inspect.iscoroutinefunction(method) else plain
    # Only its name: functools.wraps would lend it the method's parameters as well.
    function.__module__ = getattr(method, "__module__", __name__)
    function.__qualname__ = getattr(method, "__qualname__", "on_data_transfer")
    return function


UNKNOWN_VENDOR_REPLY: Final = Reply(UNKNOWN_VENDOR)
UNKNOWN_MESSAGE_REPLY: Final = Reply(UNKNOWN_MESSAGE)

_REMEMBERED: Final = 4_096
"""Routes remembered, by the spelling of stations. Bounded, because spellings come from outside."""


class Routes:
    """All routers of a worker."""

    def __init__(self, routers: Iterable[Router]) -> None:
        """Raises :class:`HandlerError` if two routers are for the same vendor.

        So it does for a handler or a lifespan that would lack the state that it needs.
        """
        self.routers = tuple(routers)
        self._by_vendor: dict[str, Router] = {}
        for router in self.routers:
            other = self._by_vendor.setdefault(fold(router.vendor_id), router)
            if other is not router:
                raise HandlerError(
                    f"there are two routers for vendor {router.vendor_id!r} (case does not count):"
                    " register all its handlers on one"
                )
        self.binding = Binding(
            [router.scope for router in self.routers],
            [handler for router in self.routers for _, handler in router.handlers()],
        )
        """The handlers as this worker calls them, and its lifespans."""
        self._remembered: dict[tuple[str, str | None], Handler] = {}

    def resolve(self, vendor_id: str, message_id: str | None) -> Handler | Reply:
        """The handler for a request, or the answer if there is none.

        UnknownVendorId and UnknownMessageId: OCPP 1.6 §4.3, OCPP 2.0.1 P02.FR.06 and .07.
        """
        found = self._remembered.get((vendor_id, message_id))
        if found is not None:
            return found
        router = self._by_vendor.get(fold(vendor_id))
        if router is None:
            return UNKNOWN_VENDOR_REPLY
        found = router.resolve(message_id)
        if found is None:
            return UNKNOWN_MESSAGE_REPLY
        found = self.binding.bound(found)
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[vendor_id, message_id] = found
        return found
