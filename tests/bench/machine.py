"""The machine that a benchmark ran on: its numbers mean nothing without it."""

import os
import platform
from pathlib import Path

import msgspec

from bridge.testing.rabbitmq import PrivateBroker


class Machine(msgspec.Struct):
    """What matters about it."""

    cpu: str
    cores: int
    kernel: str
    python: str
    rabbitmq: str

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        software = f"Linux {self.kernel}, CPython {self.python}, RabbitMQ {self.rabbitmq}"
        return f"{self.cpu}, {cores}, {software}"


def this_machine(broker: PrivateBroker) -> Machine:
    """The machine we run on. Broker, load and worker share its cores; nothing is pinned."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return Machine(
        cpu=models[0] if models else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        rabbitmq=broker.version,
    )
