"""Compiles the C worker, the load generator and the stations, outside the tree.

Without a C compiler, the load generator in Python takes over; there are no such stations then.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

SOURCES = Path(__file__).parent
RABBITMQ = "rabbitmq"
"""The library that librabbitmq is to the linker."""
MISSING = (
    "No C worker and a slower load generator: compiling against librabbitmq failed ({reason}).\n"
    "On Debian or Ubuntu: apt-get install gcc librabbitmq-dev"
)


class Programs(msgspec.Struct):
    """The commands to start."""

    load: list[str]
    c_worker: list[str] | None
    """None if it could not be compiled."""
    remark: str = ""
    """What is left out, and why."""


def compile_program(name: str, folder: Path, *libraries: str) -> list[str]:
    """The command of a C program. Raises RuntimeError with the compiler's first error."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("there is no C compiler")
    program = folder / name
    command = [
        compiler,
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        str(program),
        str(SOURCES / f"{name}.c"),
        *(f"-l{library}" for library in libraries),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
        raise RuntimeError(errors[0])
    return [str(program)]


@contextmanager
def compiled() -> Iterator[Programs]:
    """The programs, for as long as the `with` block lasts."""
    with tempfile.TemporaryDirectory(prefix="dtbridge-bench-") as folder:
        try:
            programs = Programs(
                compile_program("load", Path(folder), RABBITMQ),
                compile_program("c_worker", Path(folder), RABBITMQ),
            )
        except RuntimeError as error:
            in_python = [sys.executable, "-m", "tests.bench.load"]
            programs = Programs(in_python, None, MISSING.format(reason=error))
        yield programs


class StationPrograms(msgspec.Struct):
    """The commands to start where gateways are measured."""

    fleet: list[str]
    """The stations."""
    load: list[str]
    """The CSMS that asks them."""


@contextmanager
def compiled_stations() -> Iterator[StationPrograms]:
    """The programs, for as long as the `with` block lasts.

    Raises RuntimeError if one cannot be compiled: there is none in Python that would cost less than
    what it measures.
    """
    with tempfile.TemporaryDirectory(prefix="dtbridge-bench-") as name:
        folder = Path(name)
        load = compile_program("load", folder, RABBITMQ)
        yield StationPrograms(compile_program("fleet", folder), load)
