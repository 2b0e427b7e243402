"""The processes of a benchmark: how they are started, measured and ended.

Linux only: processor time and memory of another process are read from /proc.
"""

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.processes import end_with_parent

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 5.0
"""How long a worker may take to stop in good order."""


class ProcessFailed(Exception):
    """A worker or the load generator ended or did not answer. The text has its last line."""


class Usage:
    """Processor time that a process and its children have used, and memory that they use."""

    def __init__(self, cpu_seconds: float, resident_kib: int, peak_kib: int) -> None:
        self.cpu_seconds = cpu_seconds
        self.resident_kib = resident_kib
        self.peak_kib = peak_kib


def family(pid: int) -> Iterator[int]:
    """The numbers of a process and of its children, grandchildren and so on."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its threads.

    It is read from the process's own processor clock, which counts nanoseconds where /proc/PID/stat
    counts ticks of 10 ms. The clock's id is made from the process number as clock_getcpuclockid(3)
    does.
    """
    return time.clock_gettime((~pid << 3) | 2)


def usage(pid: int) -> Usage:
    """What a process and its children use together."""
    cpu, resident, peak = 0.0, 0, 0
    for member in family(pid):
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{member}/status").read_text().splitlines()
        )
        cpu += cpu_seconds(member)
        resident += int(status["VmRSS"].split()[0])
        peak += int(status["VmHWM"].split()[0])
    return Usage(cpu, resident, peak)


class Process:
    """A child in the project's root folder. It ends with the `with` block, or with us."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = list(command)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            preexec_fn=end_with_parent(signal.SIGTERM),  # noqa: PLW1509 - the benchmark has one thread
        )
        assert self._process.stdout
        os.set_blocking(self._process.stdout.fileno(), False)
        self._unread = b""

    @property
    def pid(self) -> int:
        """The process number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def next_line(self, seconds: float) -> bytes:
        """The next line it prints.

        Raises ProcessFailed if the process ends first, or the time is up.
        """
        assert self._process.stdout
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            ended = not self.running
            select.select(
                [self._process.stdout], [], [], max(0.0, min(1.0, deadline - time.monotonic()))
            )
            self._unread += self._process.stdout.read() or b""
            if b"\n" not in self._unread and (ended or time.monotonic() > deadline):
                raise self.failure("ended" if ended else f"said nothing for {seconds:g} s")
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def failure(self, what: str) -> ProcessFailed:
        """An error with the last line that the process printed."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        name = " ".join(Path(part).name for part in self.command[:3])
        return ProcessFailed(f"{name} {what}: {lines[-1] if lines else 'no message'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for member in [*family(self.pid)][::-1]:
                os.kill(member, signal.SIGKILL)
            self._process.communicate()
        self._errors.close()


class Load(Process):
    """The load generator; see load.c for its events and its result."""

    faults: ClassVar[tuple[str, ...]] = ("duplicate", "foreign", "refused")
    """What it may not count."""

    def await_event(self, name: str, seconds: float = 90) -> None:
        """Wait for an event. Raises ProcessFailed if it does not come."""
        line = json.loads(self.next_line(seconds))
        if line != {"event": name}:
            raise self.failure(f"said {line} where {name} was due")

    def result(self, seconds: float = 90) -> dict[str, Any]:
        """Its last line. Raises ProcessFailed if it counted a fault: a reply that was double,
        foreign or not Accepted.
        """
        result: dict[str, Any] = json.loads(self.next_line(seconds))
        wrong = {fault: result[fault] for fault in self.faults if result[fault]}
        if wrong:
            raise self.failure(f"counted wrong replies {wrong}")
        return result
