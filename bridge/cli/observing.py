"""What probes and scrapers are told of a process (``--http``), and what blocks its event loop.

The parts are in :mod:`bridge.telemetry`; here they are given what they look at.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Final, Protocol

import typer
from prometheus_client import CollectorRegistry

from bridge.cli.addresses import parse_listen
from bridge.cli.exits import fail
from bridge.cli.options import finite
from bridge.cli.supervisor import Start
from bridge.telemetry.blocked import LoopWatch
from bridge.telemetry.clock import ClockWatch
from bridge.telemetry.health import STALE, STALLED, Check, Finding, Health, all_of, loop_check
from bridge.telemetry.http import Listener, ListenError, Page
from bridge.telemetry.logs import get_logger
from bridge.telemetry.pages import FAMILIES, families_page, pages
from bridge.telemetry.pulse import Pulse
from bridge.telemetry.reachability import Pingable, Reachability
from bridge.telemetry.readiness import ReadinessCollector
from bridge.transport import State, Transport

log = get_logger("bridge.cli")


def _address(text: str | None) -> str | None:
    """Checks where to listen. Raises BadParameter for what is no address."""
    if text is not None:
        try:
            parse_listen(text)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not HOST:PORT, for example :9100 or 127.0.0.1:9100"
            ) from None
    return text


HttpOption = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_HTTP",
        metavar="HOST:PORT",
        callback=_address,
        help="Where /livez, /readyz and /metrics are served; :PORT is every interface, port 0 any "
        "free one. Without it, nowhere.",
    ),
]
BlockedAfter = Annotated[
    float,
    typer.Option(
        envvar="DTBRIDGE_BLOCKED_AFTER",
        min=0,
        callback=finite,
        help="Seconds after which whatever blocks the event loop is logged; 0: never.",
    ),
]


# ---- the listener ----


def open_listener(http: str | None, start: Start | None = None) -> Listener | None:
    """Take the address. None: there is none to take.

    The child of a supervisor has a socket that only the supervisor asks. Ends the command if the
    address cannot be had.
    """
    try:
        if start is not None and start.is_child:
            return None if start.socket is None else Listener.on_path(start.socket)
        return None if http is None else Listener.on_port(*parse_listen(http))
    except ListenError as error:
        fail(str(error))


@contextlib.contextmanager
def serving(listener: Listener, served: Mapping[str, Page]) -> Iterator[None]:
    """Answer for as long as the block runs."""
    listener.start(served)
    say = log.debug if listener.is_private else log.info
    say("serving http", address=listener.address, pages=list(served))
    try:
        yield
    finally:
        listener.close()


@contextlib.contextmanager
def beating() -> Iterator[Pulse]:
    """A pulse of the running event loop."""
    pulse = Pulse()
    pulse.start()
    try:
        yield pulse
    finally:
        pulse.stop()


# ---- a worker, a gateway ----


@asynccontextmanager
async def observing_worker(
    listener: Listener | None, worker: "HasStore", registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Answer for a worker, if there is a listener. `registry`: its metrics."""
    if listener is None:
        yield
        return
    async with AsyncExitStack() as stack:
        ready = broker_checks(worker) | await _asking(stack, answering=worker.transport)
        ready |= await _asking(stack, store=worker.store) or {"store": _in_this_process}
        pulse = stack.enter_context(beating())
        health = _health(pulse, ready)
        registry.register(ReadinessCollector(health.ready))
        stack.enter_context(serving(listener, _pages(listener, health, registry)))
        yield


class Server(Protocol):
    """A gateway, as far as it is looked at."""

    @property
    def accepts(self) -> bool:
        """Whether stations can connect."""

    @property
    def clock(self) -> ClockWatch:
        """Measures how late its event loop is."""


@asynccontextmanager
async def observing_gateway(
    listener: Listener | None,
    link: "HasBroker",
    server: Server,
    blocked_after: float,
    registry: CollectorRegistry,
) -> AsyncIterator[None]:
    """Watch a gateway's event loop, and answer for the gateway, if there is a listener.

    `registry`: its metrics.
    """
    loop_watch = LoopWatch(blocked_after)
    loop_watch.start()
    server.clock.told_since = loop_watch.noticed_since
    try:
        async with AsyncExitStack() as stack:
            if listener is not None:
                pulse = stack.enter_context(beating())
                ready = broker_checks(link) | await _asking(stack, answering=link.transport)
                ready["stations"] = lambda: _accepting(server)
                health = _health(pulse, ready)
                registry.register(ReadinessCollector(health.ready))
                stack.enter_context(serving(listener, _pages(listener, health, registry)))
            yield
    finally:
        loop_watch.stop()


def _pages(listener: Listener, health: Health, registry: CollectorRegistry) -> Mapping[str, Page]:
    """What is served; to a supervisor, that which it puts together with what others say, too."""
    served = dict(pages(health, registry))
    if listener.is_private:
        served[FAMILIES] = families_page(registry)
    return served


async def _asking(stack: AsyncExitStack, **asked: object) -> dict[str, Check]:
    """Checks of what can be asked, by these names. It is asked for as long as the stack lasts."""
    return {
        name: (await stack.enter_async_context(Reachability(each))).check
        for name, each in asked.items()
        if isinstance(each, Pingable)
    }


def _accepting(server: Server) -> Finding:
    if server.accepts:
        return Finding(True, "they can connect")
    return Finding(False, "they cannot connect: the gateway is not listening")


def _health(pulse: Pulse, ready: Mapping[str, Check]) -> Health:
    live = {"event loop": loop_check(pulse, STALLED)}
    fresh = {"event loop": loop_check(pulse, STALE)}
    return Health(lambda: all_of(live), lambda: all_of({**fresh, **ready}))


def _in_this_process() -> Finding:
    return Finding(True, "none that could be out of reach")


# ---- the broker ----


class HasBroker(Protocol):
    """A worker, or the link of a gateway."""

    @property
    def state(self) -> State: ...

    @property
    def reason(self) -> str: ...

    @property
    def transport(self) -> Transport: ...


class HasStore(HasBroker, Protocol):
    """A worker."""

    @property
    def store(self) -> object: ...


_CONNECTED: Final = frozenset({State.CONSUMING, State.BLOCKED, State.DRAINING})
_CONSUMING: Final = frozenset({State.CONSUMING, State.BLOCKED})


def broker_checks(it: HasBroker) -> dict[str, Check]:
    """Whether it is connected and consumes, and whether the broker takes its publishings."""

    def among(states: frozenset[State]) -> Check:
        def check() -> Finding:
            state, reason = it.state, it.reason
            return Finding(state in states, f"{state.value}: {reason}")

        return check

    return {
        "connected": among(_CONNECTED),
        "consuming": among(_CONSUMING),
        "publishing": among(frozenset(State) - {State.BLOCKED}),
    }
