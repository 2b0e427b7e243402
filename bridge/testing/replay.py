"""Recorded requests put to handlers again, without a broker, and their answers compared."""

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from bridge.ocpp import parse_version
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Outcome, Reply, RetryLater, describe_error
from bridge.routing.handler import Handler
from bridge.routing.router import Router, Routes
from bridge.telemetry.events import Event, request_body
from bridge.telemetry.exceptions import raised_at
from bridge.transport import Delivery, Properties
from bridge.worker.dispatch import Dispatcher
from bridge.worker.lifespan import Lifespans

ABSENT: Final = "(absent)"
"""Stands for a member that is not there."""


class Result(msgspec.Struct):
    """What a request was given by the handlers of today."""

    outcome: Outcome
    raised: str = ""
    """The exception of its handler, with file and line; empty if it raised none."""


class Replayer:
    """Has requests handled one after the other. Nobody waits for them, so no deadline passes."""

    def __init__(self, routers: Iterable[Router], *, strict: bool = False) -> None:
        """`strict`: as of a worker. Raises HandlerError if two routers are for one vendor."""
        self._raised: list[BaseException] = []
        watched = [_Watched(router, self._raised.append) for router in routers]
        routes = Routes(watched)
        self._lifespans = Lifespans(routes.binding.lifespans)
        self._dispatcher = Dispatcher(routes, strict=strict)

    async def handle(self, event: Event) -> Result:
        """Put the request of an event to its handler.

        Raises ValueError for an event without its request, or of an unknown OCPP version.
        """
        body = request_body(event)
        if body is None:
            raise ValueError("the event does not have its request")
        request = Request(
            body=body,
            station_id=event.station,
            version=parse_version(event.ocpp_version),
            ocpp_message_id=event.ocpp_message_id or None,
            deadline=None,
            attempt=event.attempt,
            redelivered=event.redelivered,
            reply_wanted=True,
            source=Delivery("", "", event.redelivered, Properties(), body),
        )
        self._raised.clear()
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._dispatcher.settle = lambda _, outcome: answer.set_result(outcome)
        self._dispatcher.dispatch(request)
        outcome = await answer
        failed = isinstance(outcome, Failure | RetryLater)
        return Result(outcome, _told(self._raised[0]) if failed and self._raised else "")

    async def start(self) -> None:
        """Enter the lifespans of the routers. Raises LifespanError for one that fails."""
        await self._lifespans.start()

    async def close(self) -> None:
        """Stop what still runs, and leave the lifespans."""
        self._dispatcher.close()
        await self._lifespans.stop()


class _Watched(Router):
    """A router whose handlers tell what they raise."""

    def __init__(self, router: Router, raised: Callable[[BaseException], None]) -> None:
        super().__init__(router.vendor_id, timeout=router.timeout, threads=router.threads)
        self._router = router
        self.scope = router.scope
        self._watched: dict[Handler, Handler] = {}
        for _, handler in router.handlers():
            watch = _watched_async if handler.is_async else _watched
            function = watch(handler.function, raised)
            self._watched[handler] = msgspec.structs.replace(handler, function=function)

    def resolve(self, message_id: str | None) -> Handler | None:
        handler = self._router.resolve(message_id)
        return None if handler is None else self._watched[handler]

    def handlers(self) -> Iterator[tuple[str | None, Handler]]:
        for message_id, handler in self._router.handlers():
            yield message_id, self._watched[handler]


def _watched_async(
    function: Callable[..., Any], raised: Callable[[BaseException], None]
) -> Callable[..., Any]:
    async def call(*arguments: Any) -> Any:
        try:
            return await function(*arguments)
        except BaseException as error:
            raised(error)
            raise

    return call


def _watched(
    function: Callable[..., Any], raised: Callable[[BaseException], None]
) -> Callable[..., Any]:
    awaited = _watched_async(lambda result: result, raised)

    def call(*arguments: Any) -> Any:
        try:
            result = function(*arguments)
        except BaseException as error:
            raised(error)
            raise
        return awaited(result) if inspect.isawaitable(result) else result

    return call


def _told(error: BaseException) -> str:
    """Type and text, where it was raised, and where its handler was then."""
    at = raised_at(error)
    return f"{describe_error(error)} ({at})" if at else describe_error(error)


# ---- answers compared ----

Path = tuple[str, ...]
"""The names of members, and the numbers of items, from the answer itself downward."""


class Difference(msgspec.Struct, frozen=True):
    """One place at which two answers differ."""

    path: str
    then: str
    """What was there, as JSON, or in words."""
    now: str


def parse_path(text: str) -> Path:
    """A path as people write it: ``data.items.*.id``, or ``/data/items/*/a.b`` (RFC 6901).

    ``*`` is any member or item. Raises ValueError for an empty one.
    """
    if text.startswith("/"):
        parts = [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]
    else:
        parts = text.split(".")
    if not all(parts):
        raise ValueError(f"{text!r} is no path such as data.items.*.id or /data/items/*/id")
    return tuple(parts)


def compare(then: bytes, result: Result, ignored: Sequence[Path] = ()) -> list[Difference]:
    """Where the answer of today differs from a recorded one, `ignored` places left out.

    They are compared as JSON values. `data` that is JSON text in a string, as OCPP 1.6 has it, is
    compared as the value that it holds. Raises ValueError if the recorded one is not JSON.
    """
    old = _value(then)
    outcome = result.outcome
    if isinstance(outcome, RetryLater):
        return [Difference("answer", _kind(old), f"another try after {outcome.after:g} s")]
    body = outcome.body if isinstance(outcome, Reply | Failure) else None
    if body is None:
        return [Difference("answer", _kind(old), "none")]
    new = _value(body)
    if ("errorCode" in old) != ("errorCode" in new):
        return [Difference("answer", _kind(old), _kind(new))]
    return [
        Difference(_shown(path), before, after)
        for path, before, after in _differences(old, new, ())
        if not any(_covers(place, path) for place in ignored)
    ]


def _value(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body, type=dict[str, Any])
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    data = value.get("data")
    if isinstance(data, str) and data.lstrip().startswith(("{", "[")):
        try:
            value["data"] = msgspec.json.decode(data)
        except (ValueError, RecursionError):
            return value
    return value


def _kind(answer: dict[str, Any]) -> str:
    if "errorCode" in answer:
        return f"CALLERROR {answer['errorCode']}"
    return str(answer.get("status", "no status"))


def _differences(old: Any, new: Any, path: Path) -> Iterator[tuple[Path, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            if name not in old or name not in new:
                yield (*path, name), _json(old, name), _json(new, name)
            else:
                yield from _differences(old[name], new[name], (*path, name))
    elif isinstance(old, list) and isinstance(new, list):
        for number in range(max(len(old), len(new))):
            place = (*path, str(number))
            if number >= len(old) or number >= len(new):
                yield place, _item(old, number), _item(new, number)
            else:
                yield from _differences(old[number], new[number], place)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield path, _encoded(old), _encoded(new)


def _json(values: dict[str, Any], name: str) -> str:
    return _encoded(values[name]) if name in values else ABSENT


def _item(values: list[Any], number: int) -> str:
    return _encoded(values[number]) if number < len(values) else ABSENT


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _covers(place: Path, path: Path) -> bool:
    return len(place) <= len(path) and all(
        part in {"*", name} for part, name in zip(place, path, strict=False)
    )


def _shown(path: Path) -> str:
    if any("." in part or "/" in part for part in path):
        return "/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)
    return ".".join(path)
