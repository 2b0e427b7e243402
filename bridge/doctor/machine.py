"""This process and its machine: Python, libraries, compiled modules, limits, the clock."""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterator
from typing import Final

from bridge.compiled.switch import PURE, running
from bridge.doctor.facts import Machine, Surroundings
from bridge.doctor.findings import Check, Finding, fail, ok, unknown, warn

LIBRARIES: Final = ("aio-pika", "aiormq", "msgspec", "orjson", "structlog", "prometheus-client")
OPTIONAL: Final = ("uvloop", "redis", "websockets", "opentelemetry-sdk")

FILES_WANTED: Final = 1_024
"""Open files that a worker should be allowed: three connections and a few of its handlers' each."""
FILES_FOR_GATEWAY: Final = 10_100
"""Those that a gateway needs for the stations that it takes unless told otherwise."""

_UNSYNCHRONISED: Final = 0x40
"""STA_UNSYNC (adjtimex(2))."""


def see_machine() -> Machine:
    """Look at this process and its machine."""
    forms = running()
    return Machine(
        python=(sys.version_info.major, sys.version_info.minor, sys.version_info.micro),
        implementation=platform.python_implementation(),
        platform=f"{platform.system()} {platform.machine()}",
        libraries={name: _version(name) for name in LIBRARIES},
        optional={name: _version(name) for name in OPTIONAL},
        uvloop=importlib.util.find_spec("uvloop") is not None,
        compiled=sum(form.form == "compiled" for form in forms.values()),
        plain={name: form.reason for name, form in forms.items() if form.form == "source"},
        pure=PURE,
        files=_files(),
        clock_synchronised=_is_synchronised(),
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _files() -> tuple[int, int] | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    return (
        sys.maxsize if soft == unlimited else soft,
        sys.maxsize if hard == unlimited else hard,
    )


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex`` (adjtimex(2)), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def _is_synchronised() -> bool | None:
    """Whether the kernel takes its clock for synchronised. Only Linux says so."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, AttributeError):
        told = _Timex()
        if ctypes.CDLL(None).adjtimex(ctypes.byref(told)) >= 0:
            return not told.status & _UNSYNCHRONISED
    return None


# ---- checks ----


def check_python(known: Surroundings) -> Iterator[Finding]:
    machine = known.machine
    version = ".".join(map(str, machine.python))
    yield ok("python", f"{machine.implementation} {version} on {machine.platform}")
    versions = [f"{name} {found}" for name, found in machine.libraries.items() if found]
    versions += [f"{name} {found}" for name, found in machine.optional.items() if found]
    yield ok("libraries", ", ".join(versions))
    missing = [name for name, found in machine.libraries.items() if not found]
    if missing:
        yield fail(
            "libraries",
            f"{', '.join(missing)} cannot be found among the installed packages",
            "install the bridge again: pip install datatransfer-bridge",
        )
    if not machine.uvloop and not machine.platform.startswith("Windows"):
        yield fail(
            "libraries",
            "uvloop is not installed, and dtbridge run needs it here",
            "pip install uvloop",
        )


def check_compiled(known: Surroundings) -> Iterator[Finding]:
    machine = known.machine
    if machine.pure:
        yield warn(
            "compiled",
            "DTBRIDGE_PURE is set: plain Python runs, at about half the speed",
            "unset it, unless you debug or profile",
        )
    elif machine.plain:
        name, reason = next(iter(machine.plain.items()))
        yield warn(
            "compiled",
            f"{len(machine.plain)} of {len(machine.plain) + machine.compiled} compiled modules do "
            f"not fit and run as plain Python, first {name}: {reason}",
            "install datatransfer-bridge again, so that it is compiled for this Python and msgspec",
        )
    elif machine.compiled:
        yield ok("compiled", f"the hot path is compiled: {machine.compiled} modules")
    else:
        yield warn(
            "compiled",
            "nothing is compiled for this Python: the hot path runs at about half the speed",
            "install datatransfer-bridge where a C compiler is, with DTBRIDGE_COMPILE=required",
        )


def check_files(known: Surroundings) -> Iterator[Finding]:
    if known.machine.files is None:
        yield unknown("files", "this system does not tell the limit of open files")
        return
    soft, hard = known.machine.files
    if hard < FILES_WANTED:
        yield warn(
            "files",
            f"a process may have {hard:,} open files at most",
            f"raise the hard limit (ulimit -Hn, LimitNOFILE=) to {FILES_WANTED:,} for a worker, "
            "and to the number of stations and some more for a gateway",
        )
    elif soft < FILES_WANTED:
        yield warn(
            "files",
            f"a process may have {soft:,} open files, and raise that to {hard:,}",
            f"raise the soft limit (ulimit -n) to {FILES_WANTED:,}: a worker does not raise it",
        )
    elif hard < FILES_FOR_GATEWAY:
        yield ok(
            "files",
            f"a process may have {soft:,} open files ({hard:,} at most): enough for a worker, and "
            f"for a gateway with {max(0, hard - 100):,} stations",
        )
    else:
        yield ok("files", f"a process may have {_limit(soft)} open files ({_limit(hard)} at most)")


def _limit(number: int) -> str:
    return "any number of" if number >= sys.maxsize else f"{number:,}"


def check_clock(known: Surroundings) -> Iterator[Finding]:
    if known.machine.clock_synchronised is None:
        yield unknown("ntp", "this system does not tell whether its clock is synchronised")
    elif known.machine.clock_synchronised:
        yield ok("ntp", "the kernel's clock is synchronised")
    else:
        yield warn(
            "ntp",
            "the kernel does not know this machine's clock to be synchronised",
            "run chrony or another NTP client here, or on the host of this virtual machine; "
            "deadlines are times of day",
        )


def check_vendors(known: Surroundings) -> Iterator[Finding]:
    vendors = known.vendors
    if vendors is None:
        return
    if vendors.error:
        yield fail("routers", vendors.error, "mend the module; dtbridge check shows the handlers")
        return
    handlers = sum(vendors.handlers.values())
    yield ok("routers", f"{len(vendors.handlers):,} vendors with {handlers:,} handlers")
    for vendor, number in vendors.handlers.items():
        if not number:
            yield warn(
                "routers",
                f"the router of {vendor!r} has no handlers: all its requests are answered with "
                "UnknownMessageId",
                "add a handler, or leave the router out",
            )


CHECKS: Final[tuple[Check[Surroundings], ...]] = (
    check_python,
    check_compiled,
    check_files,
    check_clock,
    check_vendors,
)
