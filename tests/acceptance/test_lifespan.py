"""`dtbridge run`: what a vendor's module opens for its handlers, in each process."""

import json
from pathlib import Path

import pytest

from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import dtbridge, sentence
from tests.acceptance.test_replay_check import event
from tests.integration.support import WorkerProcess

PACKAGE = {
    "__init__.py": """\
import os
from collections.abc import AsyncIterator
from pathlib import Path
from bridge import Call, CallNext, Router
router = Router("com.acme")

@router.lifespan
async def opened() -> AsyncIterator[str]:
    open(f"opened.{os.getpid()}", "x").close()
    if Path("fail").exists():
        raise ConnectionRefusedError("no database at db.example")
    yield "EUR"
    Path(f"opened.{os.getpid()}").rename(f"closed.{os.getpid()}")

@router.middleware
async def doubled(call: Call[str], data: dict, call_next: CallNext) -> dict:
    return await call_next(call, {**data, "kWh": data["kWh"] * 2})

from acme import prices
router.include(prices.router)
""",
    "prices.py": """\
from collections.abc import AsyncIterator
from bridge import Call, Router
router = Router("com.acme")

class Prices:
    def __init__(self, currency: str) -> None:
        self.currency = currency

    @router.method("Price")
    def price(self, call: "Call[Prices]", data: dict) -> str:
        return f"{data['kWh']} {self.currency}"

@router.lifespan
async def prices(currency: str) -> AsyncIterator[Prices]:
    yield Prices(currency)
""",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "acme").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / "acme" / name).write_text(text)
    return tmp_path


def marks(folder: Path, what: str) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{what}.*"))


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_lifespan_that_fails_at_its_start_ends_the_worker_with_a_sentence(
    folder: Path, processes: str
) -> None:
    (folder / "fail").touch()
    (closed,) = free_ports(1)
    url = f"amqp://127.0.0.1:{closed}/"
    arguments = ("run", "acme:router", "--amqp-url", url, "--processes", processes)
    done = dtbridge(*arguments, folder=folder)
    assert done.returncode == 1, done.stderr
    assert (
        "acme.opened, the lifespan of Router('com.acme'), failed at the start: "
        "ConnectionRefusedError: no database at db.example, at acme/__init__.py:" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_handlers_and_what_is_around_them_are_listed(folder: Path) -> None:
    done = dtbridge("check", "acme:router", folder=folder, settings={"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert "acme.prices.Prices.price" in done.stdout
    assert "com.acme: lifespans acme.opened, acme.prices.prices" in done.stdout
    assert "com.acme: middleware acme.doubled" in done.stdout
    assert not marks(folder, "opened")


def test_a_replay_opens_and_closes_it(folder: Path) -> None:
    request = {"vendorId": "com.acme", "messageId": "Price", "data": {"kWh": 10}}
    answer = {"status": "Accepted", "data": "20 EUR"}
    line = event(request=json.dumps(request), answer=json.dumps(answer))
    (folder / "events.jsonl").write_text(json.dumps(line))
    done = dtbridge("replay-check", "acme:router", "events.jsonl", folder=folder)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "1 the same" in done.stdout
    assert len(marks(folder, "closed")) == 1
    (folder / "fail").touch()
    done = dtbridge("replay-check", "acme:router", "events.jsonl", folder=folder)
    assert done.returncode == 2
    assert "failed at the start" in sentence(done)


@pytest.mark.parametrize("processes", [1, 2])
def test_each_process_opens_it_before_its_first_request_and_closes_it(
    folder: Path, amqp_url: str, processes: int
) -> None:
    with WorkerProcess("acme:router", amqp_url, folder=folder, processes=processes):
        assert len(marks(folder, "opened")) == processes
        where = ["--station", "CP1", "--vendor", "com.acme", "--message", "Price"]
        done = dtbridge("send", *where, "--data", '{"kWh": 10}', "--amqp-url", amqp_url)
        assert "20 EUR" in done.stdout, done.stderr
    assert len(marks(folder, "closed")) == processes
    assert not marks(folder, "opened")
