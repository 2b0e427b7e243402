"""The kernel's scheduling policy that a worker runs under."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import WorkerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SCHED_BATCH is Linux's")


def policies(pid: int) -> set[int]:
    """The policies of a process's threads."""
    return {
        os.sched_getscheduler(int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()
    }


@pytest.mark.parametrize(("chosen", "policy"), [(None, "SCHED_BATCH"), ("normal", "SCHED_OTHER")])
async def test_a_worker_is_scheduled_as_it_was_told(
    amqp_url: str, chosen: str | None, policy: str
) -> None:
    settings: dict[str, Any] = {} if chosen is None else {"scheduling": chosen}
    async with WorkerProcess(
        "tests.integration.load_vendors:routers", amqp_url, **settings
    ) as worker:
        assert policies(worker.process.pid) == {getattr(os, policy)}


def schedule(policy_before: str, change: str = "") -> int:
    """The policy of a process that began under `policy_before` and then called `schedule`."""
    code = (
        f"import os; os.sched_setscheduler(0, os.{policy_before}, os.sched_param(0)); {change}\n"
        "from bridge.cli.process import Scheduling, schedule\n"
        "schedule(Scheduling.BATCH); print(os.sched_getscheduler(0))"
    )
    return int(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
    )


def test_a_policy_somebody_chose_is_left_alone() -> None:
    assert schedule("SCHED_OTHER") == os.SCHED_BATCH
    assert schedule("SCHED_IDLE") == os.SCHED_IDLE


def test_a_container_that_forbids_it_is_no_reason_not_to_work() -> None:
    forbid = "os.sched_setscheduler = lambda *_: (_ for _ in ()).throw(PermissionError(1, 'no'))"
    assert schedule("SCHED_OTHER", forbid) == os.SCHED_OTHER
