"""Who is measured: how each worker is started for a job."""

import sys
from collections.abc import Callable
from importlib.util import find_spec

import msgspec

from tests.bench.build import Programs
from tests.bench.messages import queue_name, vendor_ids

PREFETCH = 200
HANDLERS = "tests.bench.handlers:routers"


class Job(msgspec.Struct, frozen=True):
    """The circumstances of one measurement."""

    size: int = 250
    """Bytes of a request's body."""
    queue_type: str = "classic"
    tls: bool = False
    vendors: int = 1
    """Vendor queues on the one worker."""
    wait_ms: int = 0
    """How long a handler waits."""
    deadline_ms: int = 0
    """Time that a requester gives, sent as the header ocpp-deadline and the property expiration; 0:
    neither is sent."""
    processes: int = 1
    idempotency: str = "memory"
    """The bridge's store of replies: its option --idempotency, `memory` by default."""
    events: str = "none"
    """Of which requests the bridge publishes an event: its option --events."""
    pure: bool = False
    """The bridge without its compiled modules."""
    counted: bool = True
    """Whether the bridge counts its requests, for its metrics."""
    surrounded: bool = False
    """Whether the bridge's handlers have the state of a lifespan, and a middleware around them."""
    scheduling: str | None = None
    """The kernel's policy for the worker, `batch` or `normal`; None: the worker's default, which is
    batch for the bridge and normal for the others."""
    first_vendor_hangs: bool | None = None
    """The load leaves out the first vendor. True: its handlers hang on requests of their own.
    False: it has none. None: it is a vendor like the others."""
    backlog: int = 0
    """Requests that wait in the queue before the worker starts; 0: a steady load instead."""

    @property
    def vendor_ids(self) -> list[str]:
        """The vendors that the worker serves."""
        return vendor_ids(self.vendors)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for the worker and its handlers."""
        return {
            "BENCH_VENDORS": str(self.vendors),
            "BENCH_WAIT_MS": str(self.wait_ms),
            "BENCH_HANG": "1" if self.first_vendor_hangs else "0",
            "BENCH_SURROUNDED": "1" if self.surrounded else "0",
            "DTBRIDGE_DRAIN_TIMEOUT": "1",
            "DTBRIDGE_PURE": "1" if self.pure else "0",
            "DTBRIDGE_BENCH_UNCOUNTED": "0" if self.counted else "1",
        }


class Subject(msgspec.Struct):
    """A worker that can be started."""

    name: str
    title: str
    command: Callable[[str, Job], list[str]]
    """The argument list for an AMQP URL and a job."""


def _queue_options(job: Job) -> list[str]:
    return [option for vendor in job.vendor_ids for option in ("--queue", queue_name(vendor))]


def bridge(python: str, name: str = "bridge", title: str = "DataTransfer Bridge") -> Subject:
    """This project's worker on an interpreter. It declares no queues, as its peers do not."""

    def command(url: str, job: Job) -> list[str]:
        options = ["--amqp-url", url, "--prefetch", str(PREFETCH), "--topology", "none"]
        if job.idempotency != "memory":
            options += ["--idempotency", job.idempotency]
        if job.events != "none":
            options += ["--events", job.events]
        if job.scheduling:
            options += ["--scheduling", job.scheduling]
        if job.processes > 1:
            options += ["--processes", str(job.processes)]
        return [python, "-m", "bridge", "run", HANDLERS, *options]

    return Subject(name, title, command)


def c_worker(program: list[str]) -> Subject:
    """The C worker, which is the limit."""

    def command(url: str, job: Job) -> list[str]:
        policy = ["chrt", "--batch", "0"] if job.scheduling == "batch" else []
        return [*policy, *program, "--url", url, "--prefetch", str(PREFETCH), *_queue_options(job)]

    return Subject("c", "C, librabbitmq", command)


def peer(python: str, name: str, title: str) -> Subject:
    """Another Python worker of this folder."""

    def command(url: str, job: Job) -> list[str]:
        module = f"tests.bench.{name}_worker"
        return [
            python,
            "-m",
            module,
            "--url",
            url,
            "--prefetch",
            str(PREFETCH),
            *_queue_options(job),
        ]

    return Subject(name, title, command)


class Cast(msgspec.Struct):
    """The subjects that can run, by name, and a line for each that is left out."""

    subjects: dict[str, Subject]
    missing: list[str]

    @property
    def titles(self) -> dict[str, str]:
        """The titles of the subjects, by name."""
        return {name: subject.title for name, subject in self.subjects.items()}


def assemble(
    programs: Programs, python: str = sys.executable, other_pythons: dict[str, str] | None = None
) -> Cast:
    """Every subject that can run here.

    `other_pythons` maps a version to a further interpreter for the bridge.
    """
    cast = Cast({}, [programs.remark] if programs.remark else [])

    def add(subject: Subject, needed: str) -> None:
        if find_spec(needed) is None:
            cast.missing.append(f"{subject.title} is left out: {needed} is not installed.")
        else:
            cast.subjects[subject.name] = subject

    add(bridge(python), "bridge.__main__")
    for version, other in (other_pythons or {}).items():
        add(
            bridge(other, f"bridge-{version}", f"DataTransfer Bridge, {version}"), "bridge.__main__"
        )
    if programs.c_worker:
        cast.subjects["c"] = c_worker(programs.c_worker)
    add(peer(python, "aiormq", "aiormq, no confirms"), "aiormq")
    add(peer(python, "aio_pika", "aio-pika"), "aio_pika")
    add(peer(python, "faststream", "FastStream"), "faststream")
    return cast
