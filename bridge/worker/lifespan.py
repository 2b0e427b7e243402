"""The lifespans of a worker's routers: entered before its first delivery, left after its last.

One task enters and leaves them all, so that a lifespan may hold what belongs to a task: a task
group, a scope of cancellation.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from bridge.request.outcome import describe_error
from bridge.routing.binding import BoundLifespan
from bridge.routing.errors import LifespanError
from bridge.telemetry.exceptions import users_place
from bridge.telemetry.logs import LogLevel, get_logger

log = get_logger("bridge.worker")

SLOW: Final = 10.0
"""Seconds of starting after which the log says what is waited for."""
END_WITHIN: Final = 2.0
"""Seconds that the lifespans have to end, even if the drain took all of its time."""
BREATH: Final = 0.5
"""Seconds for a lifespan that was cancelled because it did not end in time."""

_Entered = tuple[BoundLifespan, AbstractAsyncContextManager[Any]]


class Lifespans:
    """Those of one worker. Enter them once."""

    def __init__(self, lifespans: Sequence[BoundLifespan]) -> None:
        self._lifespans = tuple(lifespans)
        self._at: BoundLifespan | None = None
        """The one that is being entered or left."""
        self._entered: asyncio.Event = asyncio.Event()
        self._over: asyncio.Event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failure: LifespanError | None = None
        """Why one ended while the worker ran."""

    async def start(self, stop: asyncio.Event | None = None) -> bool:
        """Enter them, in their order. False: `stop` was set before they were entered.

        If one ends by itself later, `stop` is set, and :attr:`failure` says why. Raises
        :class:`~bridge.routing.errors.LifespanError` for one that fails.
        """
        if not self._lifespans:
            return True
        stop = asyncio.Event() if stop is None else stop
        task = self._task = asyncio.create_task(self._live(stop))
        waiting = [asyncio.create_task(each.wait()) for each in (self._entered, stop)]
        try:
            several = (task, *waiting)
            done, _ = await asyncio.wait(several, timeout=SLOW, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                log.warning(
                    "a lifespan takes long to start",
                    **_named(self._at),
                    after_s=SLOW,
                    hint="nothing is consumed before; bound what it waits for",
                )
                await asyncio.wait(several, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if task.done():
            task.result()
        return self._entered.is_set()

    async def stop(self, seconds: float = END_WITHIN) -> None:
        """Leave those that were entered, the last one first. What fails meanwhile is logged.

        One that has not ended in so many seconds is cancelled, and no longer waited for.
        """
        task = self._task
        if task is None:
            return
        self._over.set()
        if not self._entered.is_set():
            task.cancel()
        await asyncio.wait((task,), timeout=seconds)
        if not task.done():
            log.error(
                "a lifespan did not end in time",
                **_named(self._at),
                after_s=round(seconds, 1),
                hint="it is cancelled: bound what it waits for",
            )
            task.cancel()
            await asyncio.wait((task,), timeout=BREATH)
        if task.done() and not task.cancelled():
            task.exception()  # it is known already
        for each in self._lifespans:
            each.held.value = None

    async def _live(self, stop: asyncio.Event) -> None:
        entered: list[_Entered] = []
        error: BaseException | None = None
        try:
            for each in self._lifespans:
                manager = await self._enter(each)
                entered.append((each, manager))
            self._at = None
            self._entered.set()
            await self._over.wait()
        except BaseException as fault:  # noqa: BLE001 - a task group ends its task by cancelling it
            error = fault
        if error is not None and self._entered.is_set() and not self._over.is_set():
            error = await self._leave(entered, error)
            self._tell_end(error)
            stop.set()
            return
        await self._leave(entered, None)
        if error is not None:
            raise error

    async def _enter(self, each: BoundLifespan) -> AbstractAsyncContextManager[Any]:
        self._at = each
        try:
            manager = each.open()
            value = await manager.__aenter__()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self._over.is_set():
                raise
            raise _failed(each, "failed at the start", error) from error
        try:
            each.hold(value)
        except Exception as error:
            await self._leave([(each, manager)], None)
            text = f"{each.name}, the lifespan of {each.router}, cannot be used: {error}"
            raise LifespanError(text) from error
        return manager

    async def _leave(
        self, entered: list[_Entered], error: BaseException | None
    ) -> BaseException | None:
        """Leave them all, whatever one raises. `error`: for which they are left, and what of it is
        left after the last.
        """
        for each, manager in reversed(entered):
            self._at = each
            try:
                trace = None if error is None else error.__traceback__
                kind = None if error is None else type(error)
                if await manager.__aexit__(kind, error, trace):
                    error = None
            except BaseException as fault:  # noqa: BLE001 - the others are to be left, too
                if error is not None:
                    error = fault
                elif not isinstance(fault, asyncio.CancelledError):
                    log.raised(
                        LogLevel.ERROR, "a lifespan failed at its end", fault, **_named(each)
                    )
        return error

    def _tell_end(self, error: BaseException | None) -> None:
        last = self._at or self._lifespans[-1]
        if error is None:
            text = f"{last.name}, the lifespan of {last.router}, ended while the worker ran"
            self.failure = LifespanError(text)
        else:
            self.failure = _failed(last, "ended while the worker ran", error)
            self.failure.__cause__ = error


def _failed(each: BoundLifespan, how: str, error: BaseException) -> LifespanError:
    place = users_place(error)
    at = f", at {place}" if place else ""
    text = " ".join(describe_error(error).split())
    return LifespanError(f"{each.name}, the lifespan of {each.router}, {how}: {text}{at}")


def _named(each: BoundLifespan | None) -> dict[str, str]:
    return {} if each is None else {"lifespan": each.name, "router": each.router}
