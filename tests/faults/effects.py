"""The fault suite's vendor whose requests have effects: routers for `dtbridge run`, and the check.

Each request leaves a row in a table of PostgreSQL, by the transaction of an inbox. While a file is
there that names points of a request, workers kill themselves at these points, by chance.
"""

import asyncio
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg

from bridge import Call, CallNext, Rejected, Retry, Router
from bridge.idempotency import Inbox, exactly_once
from tests.faults.handlers import BIG, VENDOR, Numbered, Ran, other, poison
from tests.faults.load import Load, Mix

DATABASE: Final = "DTBRIDGE_TEST_DATABASE"
"""The variable that holds its URL."""
DEATHS: Final = "DTBRIDGE_TEST_DEATHS"
"""The variable that names the file: points of death, separated by commas, and one in how many."""
EFFECT, COMMIT, REPLY = "effect", "commit", "reply"
"""After the effect and before the commit; somewhere around the commit; after the commit and before
the reply."""
COMMIT_SECONDS: Final = 0.004
"""Within that time of the handler's end the commit is on its way, or is done."""

MIX: Final = Mix({"Echo": 84, "Slow": 8, "Flaky": 4, "Big": 2, "Refuse": 2})

TABLE: Final = "CREATE TABLE effects (number int NOT NULL, run text NOT NULL)"

router = Router(VENDOR)
routers = [router, poison, other]

_deaths = Path(os.environ.get(DEATHS, os.devnull))


def _due(point: str) -> bool:
    try:
        points, one_in = _deaths.read_text().split()
    except (FileNotFoundError, ValueError):
        return False
    return point in points.split(",") and random.random() * float(one_in) < 1


def _die(point: str) -> None:
    journal = os.open(f"{_deaths}-journal", os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(journal, f"{point}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


@router.lifespan
async def lifespan() -> AsyncIterator[Inbox]:
    async with Inbox(os.environ[DATABASE]) as inbox:
        yield inbox


@router.middleware
async def dying(call: Call, data: Any, call_next: CallNext) -> Any:
    """Outside of the transaction: when it returns, the effect is committed."""
    answer = await call_next(call, data)
    if _due(REPLY):
        _die(REPLY)
    return answer


router.middleware(exactly_once)


async def _have_effect(call: Call[Inbox], ran: Ran) -> Ran:
    await call.state.connection.execute(
        "INSERT INTO effects VALUES (%s, %s)", (ran.number, ran.run)
    )
    if _due(EFFECT):
        _die(EFFECT)
    if _due(COMMIT):
        asyncio.get_running_loop().call_later(random.uniform(0, COMMIT_SECONDS), _die, COMMIT)
    return ran


@router.on("Echo")
async def echo(call: Call[Inbox], data: Numbered) -> Ran:
    return await _have_effect(call, Ran(data.number))


@router.on("Slow")
async def slow(call: Call[Inbox], data: Numbered) -> Ran:
    """Holds its transaction open, with and without its effect."""
    await asyncio.sleep(data.number % 3 * 0.02)
    ran = await _have_effect(call, Ran(data.number))
    await asyncio.sleep(data.number % 4 * 0.02)
    return ran


@router.on("Flaky")
async def flaky(call: Call[Inbox], data: Numbered) -> Ran:
    """Has its effect undone, and then once more."""
    ran = await _have_effect(call, Ran(data.number))
    if call.attempt == 1:
        raise Retry(after=0.1)
    return ran


@router.on("Big")
async def big(call: Call[Inbox], data: Numbered) -> Ran:
    return await _have_effect(call, Ran(data.number, padding="x" * BIG))


@router.on("Refuse")
async def refuse(call: Call[Inbox], data: Numbered) -> Ran:
    await _have_effect(call, Ran(data.number))
    raise Rejected("NotToday")


# ---- the check ----


class _Answer(msgspec.Struct):
    status: str
    data: Ran | None = None


async def make_tables(database: str) -> None:
    """Of the inbox, and of the effects."""
    await Inbox.create_schema(database)
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute(TABLE)


def deaths(file: Path) -> Counter[str]:
    """How often workers have killed themselves, by the point."""
    journal = file.with_name(f"{file.name}-journal")
    return Counter(journal.read_text().split()) if journal.exists() else Counter()


def wrong_effects(database: str, load: Load) -> list[str]:
    """What is not as it must be: each request had the one effect that it was told of."""
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT number, run FROM effects").fetchall()
    runs: dict[int, list[str]] = defaultdict(list)
    for number, run in rows:
        runs[number].append(run)
    wrong = []
    for sent in load.sent.values():
        told = [msgspec.json.decode(answer.body, type=_Answer).data for answer in sent.answers]
        expected = sorted({ran.run for ran in told if ran is not None})
        had = sorted(runs.pop(sent.number, []))
        if not sent.answers and len(had) < 2:
            continue  # nobody was told: the checker has its own word on that
        if had != expected:
            wrong.append(
                f"request {sent.number} ({sent.message}): told of {expected}, and had {had}"
            )
    return wrong + [f"effects of number {number}, which was never sent" for number in runs]
