"""Which gateways are measured: how each is started. One more is one more line in `assemble`."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgspec

BRIDGE, OCPP, OCPP_UVLOOP, ECHO = "bridge", "ocpp", "ocpp-uvloop", "echo"


class Place(msgspec.Struct, frozen=True):
    """Where a gateway is to work."""

    port: int
    """It listens there, on 127.0.0.1."""
    url: str
    """The broker's AMQP URL, with the virtual host."""
    stations: int
    """At most so many connect."""
    certificate: Path | None = None
    """Stations connect over TLS then."""
    key: Path | None = None

    @property
    def tls_options(self) -> list[str]:
        """The same options for all."""
        if self.certificate is None:
            return []
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]


class Subject(msgspec.Struct, frozen=True):
    """A gateway that can be started."""

    name: str
    title: str
    command: Callable[[Place], list[str]]
    """The argument list for a place."""
    needs: tuple[str, ...] = ()
    """Packages that it does not run without."""
    has_csms: bool = True
    """Whether it passes on what stations and the CSMS ask each other. Else it answers stations by
    itself."""


def _bridge(place: Place) -> list[str]:
    """Every limit is the default, except how many stations connect from one host."""
    most = str(place.stations + 100)
    listen = ["--listen", f"127.0.0.1:{place.port}", "--amqp-url", place.url]
    limits = ["--max-connections", most, "--max-per-address", most, "--log-level", "warning"]
    return [sys.executable, "-m", "bridge", "gateway", *listen, *limits, *place.tls_options]


def peer(module: str, *more: str) -> Callable[[Place], list[str]]:
    """The command of a gateway of this folder, which takes the options of peer.py.

    `more`: further ones.
    """

    def command(place: Place) -> list[str]:
        options = ["--url", place.url, "--port", str(place.port), *place.tls_options, *more]
        return [sys.executable, "-m", f"tests.bench.gateways.{module}", *options]

    return command


SUBJECTS = (
    Subject(BRIDGE, "dtbridge gateway", _bridge, ("websockets",)),
    Subject(
        OCPP,
        "ocpp, aio-pika",
        peer("ocpp_gateway"),
        ("ocpp", "websockets", "aio_pika", "uvloop"),
    ),
    Subject(
        OCPP_UVLOOP,
        "the same on uvloop",
        peer("ocpp_gateway", "--uvloop"),
        ("ocpp", "websockets", "aio_pika", "uvloop"),
    ),
    Subject(
        ECHO,
        "echo on websockets",
        peer("echo"),
        ("websockets", "uvloop"),
        has_csms=False,
    ),
)
"""In the order in which they take turns."""


class Cast(msgspec.Struct):
    """The subjects that can run, by name, and a line for each that is left out."""

    subjects: dict[str, Subject]
    missing: list[str]

    @property
    def titles(self) -> dict[str, str]:
        """The titles of the subjects, by name."""
        return {name: subject.title for name, subject in self.subjects.items()}


def assemble() -> Cast:
    """Every subject that can run here."""
    cast = Cast({}, [])
    for subject in SUBJECTS:
        absent = next((name for name in subject.needs if find_spec(name) is None), None)
        if absent is None:
            cast.subjects[subject.name] = subject
        else:
            cast.missing.append(f"{subject.title} is left out: {absent} is not installed.")
    return cast
