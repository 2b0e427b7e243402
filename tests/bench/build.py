"""Compiles the C worker and the load generator, outside the tree.

Without a C compiler, the load generator in Python takes over.
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


def _compile(name: str, folder: Path) -> list[str]:
    """The command of a C program. Raises RuntimeError with the compiler's first error."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("there is no C compiler")
    program = folder / name
    command = [
        compiler,
        "-O2",
        "-Wall",
        "-o",
        str(program),
        str(SOURCES / f"{name}.c"),
        "-lrabbitmq",
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
            programs = Programs(_compile("load", Path(folder)), _compile("c_worker", Path(folder)))
        except RuntimeError as error:
            in_python = [sys.executable, "-m", "tests.bench.load"]
            programs = Programs(in_python, None, MISSING.format(reason=error))
        yield programs
