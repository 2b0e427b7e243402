"""``dtbridge tap``: what becomes of requests, live, from the events that workers publish."""

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from io import BufferedWriter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bridge.cli.advice import with_advice
from bridge.cli.assembly import make_listener
from bridge.cli.event_lines import bodies, lines
from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.options import (
    LOCAL,
    NONE_GIVEN,
    AmqpUrl,
    ConnectTimeout,
    HostOrderOption,
    LogLevelOption,
    Prefix,
    broker_urls,
)
from bridge.cli.output import say
from bridge.cli.process import complete, stopping_signals
from bridge.cli.tables import json_text
from bridge.dialects.names import OTHER_VENDORS, PREFIX, Names, event_word
from bridge.dialects.permissions import Role
from bridge.rabbitmq.urls import HostOrder
from bridge.routing.router import fold
from bridge.telemetry.events import Event, read_event, read_members
from bridge.telemetry.lines import escaped
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.telemetry.outcomes import KINDS
from bridge.transport import (
    Binding,
    Delivery,
    State,
    Subscription,
    TopologyError,
    Transport,
    TransportError,
)

CONNECT_WITHIN: Final = 5.0
"""Seconds at most to find a broker: a person is waiting."""
QUEUE_LENGTH: Final = 10_000
"""Events that wait in the broker at most, if they cannot be shown as fast as they come."""
HINT_AFTER: Final = 10.0
"""Seconds without any event after which a person is told what may be the reason."""
_BODIES: Final = ("request", "answer", "request_base64", "answer_base64")

NO_EVENTS: Final = "workers publish them if they are started with: dtbridge run … --events all"
MADE_BY: Final = (
    "where workers declare nothing (--topology verify), `dtbridge topology apply … --events` does"
)


def _outcomes(given: list[str]) -> list[str]:
    for outcome in given:
        if outcome not in KINDS:
            raise typer.BadParameter(f"there is no outcome {outcome!r}, but {', '.join(KINDS)}")
    return given


def tap(
    vendor: Annotated[
        list[str],
        typer.Option(envvar="DTBRIDGE_TAP_VENDOR", help="Only those of this vendorId, or several."),
    ] = NONE_GIVEN,
    station: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_TAP_STATION", help="Only those of this charging station, or several."
        ),
    ] = NONE_GIVEN,
    outcome: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_TAP_OUTCOME",
            callback=_outcomes,
            help=f"Only those with this outcome, or several: {', '.join(KINDS)}.",
        ),
    ] = NONE_GIVEN,
    save: Annotated[
        Path | None,
        typer.Option(
            envvar="DTBRIDGE_TAP_SAVE",
            dir_okay=False,
            metavar="FILE.jsonl",
            help="Append each event to this file, a JSON object a line, payloads included.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", envvar="DTBRIDGE_TAP_JSON", help="Print JSON, a line each.")
    ] = False,
    show_bodies: Annotated[
        bool,
        typer.Option(
            "--bodies",
            envvar="DTBRIDGE_TAP_BODIES",
            help="Show payloads, if workers publish them (dtbridge run --event-bodies).",
        ),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(envvar="DTBRIDGE_TAP_COUNT", min=1, help="End after so many events."),
    ] = None,
    amqp_url: AmqpUrl = LOCAL,
    host_order: HostOrderOption = HostOrder.RANDOM,
    connect_timeout: ConnectTimeout = CONNECT_WITHIN,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Show what becomes of requests, live, until Ctrl-C. Workers must run with --events."""
    urls = broker_urls(amqp_url)
    configure(LogFormat.AUTO, log_level)
    wanted = _Wanted(vendor, station, outcome)
    transport = make_listener(
        urls, start_timeout=connect_timeout, host_order=host_order, name="dtbridge tap"
    )
    exchange = Names(prefix).events
    listening = _Tap(
        transport,
        exchange,
        wanted,
        as_json=as_json,
        show_bodies=show_bodies,
        saved=None if save is None else _opened(save),
        count=count,
    )
    try:
        complete(listening.run())
    except TopologyError as error:
        if "NOT_FOUND" not in str(error):
            fail(with_advice(error, Role.LISTENER))
        fail(
            f"nobody publishes events here: there is no exchange {exchange!r}; {NO_EVENTS}, which "
            f"makes it; {MADE_BY}"
        )
    except TransportError as error:
        fail(with_advice(error))


def _opened(path: Path) -> BufferedWriter:
    """The file, to be appended to. A last line that was cut short is ended."""
    try:
        file = path.open("ab")
        if file.tell():
            with path.open("rb") as before:
                before.seek(-1, 2)
                if before.read(1) != b"\n":
                    file.write(b"\n")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", EXIT_USAGE)
    return file


class _Wanted:
    """Which events are shown."""

    def __init__(
        self, vendors: Sequence[str], stations: Sequence[str], outcomes: Sequence[str]
    ) -> None:
        self._vendors = {fold(vendor): vendor for vendor in vendors}
        self._stations = dict.fromkeys(stations)
        self._outcomes = dict.fromkeys(outcomes)

    @property
    def keys(self) -> list[str]:
        """The binding keys that all of them match.

        A vendor that a worker has no handlers for is found among the others that are like it.
        """
        if not self._vendors and not self._outcomes:
            return ["#"]
        starts: Iterable[str] = ["#"]
        if self._vendors:
            starts = dict.fromkeys([*map(event_word, self._vendors.values()), OTHER_VENDORS])
        return [f"{start}.{end}" for start in starts for end in self._outcomes or ["*"]]

    def takes(self, event: Event) -> bool:
        """Whether it is one of them."""
        return (
            (not self._vendors or fold(event.vendor) in self._vendors)
            and (not self._stations or event.station in self._stations)
            and (not self._outcomes or event.outcome in self._outcomes)
        )

    def __str__(self) -> str:
        parts = (
            ("vendor", self._vendors.values()),
            ("station", self._stations),
            ("outcome", self._outcomes),
        )
        told = [f"{name} {' or '.join(values)}" for name, values in parts if values]
        return ", ".join(told) or "all requests"


class _Tap:
    """One run of the command."""

    def __init__(
        self,
        transport: Transport,
        exchange: str,
        wanted: _Wanted,
        *,
        as_json: bool,
        show_bodies: bool,
        saved: BufferedWriter | None,
        count: int | None,
    ) -> None:
        self._transport = transport
        self._exchange = exchange
        self._wanted = wanted
        self._as_json = as_json
        self._show_bodies = show_bodies
        self._saved = saved
        self._count = count
        self._came = 0
        """Events that came, whether they were wanted or not."""
        self._shown = 0
        self._unreadable = 0
        self._listened = False
        self._stop = asyncio.Event()
        self._failure: typer.Exit | str | None = None
        """Why it cannot go on: a sentence, or an end whose sentence has been told."""

    async def run(self) -> None:
        """Listen until it is to end. Raises TransportError if that cannot begin."""
        loop = asyncio.get_running_loop()
        bindings = [Binding(self._exchange, key) for key in self._wanted.keys]
        subscription = Subscription(
            "", 0, self._on_delivery, no_ack=True, bindings=bindings, max_length=QUEUE_LENGTH
        )
        try:
            await self._transport.start([subscription], self._on_state)
            for number in stopping_signals():
                loop.add_signal_handler(number, self._stop.set)
            hint = loop.call_later(HINT_AFTER, self._hint)
            await self._stop.wait()
            hint.cancel()
        finally:
            self._stop.set()
            await self._transport.close()
            if self._saved is not None:
                self._saved.close()
        if isinstance(self._failure, str):
            fail(self._failure)
        if self._failure is not None:
            raise self._failure

    def _on_state(self, state: State, reason: str) -> None:
        if self._stop.is_set():
            return
        if state is State.CONSUMING:
            again = " again" if self._listened else ""
            what = f"{self._exchange} for {self._wanted}"
            _tell(f"listening{again} to {what}; times are UTC, Ctrl-C ends")
            self._listened = True
        elif state is State.CONNECTING and self._listened:
            _tell(f"connecting: {reason}")

    def _hint(self) -> None:
        if not self._came:
            _tell(
                f"no event in {HINT_AFTER:g} s. {NO_EVENTS[0].upper()}{NO_EVENTS[1:]}; with "
                "--events failures, they tell only what goes wrong"
            )

    def _on_delivery(self, delivery: Delivery) -> None:
        if self._stop.is_set():
            return
        self._came += 1
        try:
            members = read_members(delivery.body)
        except ValueError as error:
            self._unreadable += 1
            if self._unreadable == 1:
                _tell(f"a message at {self._exchange} is left out: {error}")
            return
        event = read_event(members)
        if not self._wanted.takes(event):
            return
        try:
            if self._saved is not None:
                self._saved.write(json_text(members).encode() + b"\n")
                self._saved.flush()
        except OSError as error:
            self._end(f"{self._saved and self._saved.name} cannot be written: {error.strerror}")
            return
        try:
            if not say(self._text(event, members)):
                self._stop.set()  # nobody reads any more
        except typer.Exit as end:
            self._end(end)
        self._shown += 1
        if self._shown == self._count:
            self._stop.set()

    def _end(self, failure: typer.Exit | str) -> None:
        self._failure = failure
        self._stop.set()

    def _text(self, event: Event, members: dict[str, Any]) -> str:
        if self._as_json:
            hidden = () if self._show_bodies else _BODIES
            return json_text({name: members[name] for name in members if name not in hidden})
        text = lines(event, shutil.get_terminal_size().columns)
        if self._show_bodies:
            text += bodies(event)
        return "\n".join(text)


def _tell(sentence: str) -> None:
    """To whoever started it."""
    typer.echo(f"dtbridge: {escaped(sentence)}", err=True)
