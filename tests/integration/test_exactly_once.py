"""docs/exactly-once.md and examples/sessions.py do what they say, on a real PostgreSQL."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

import examples.sessions
from bridge import Router
from bridge.idempotency import Inbox
from bridge.testing import TestBridge

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "exactly-once.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HANDLER, CREATE, CLEAN_UP = [text for tag, text in FENCE.findall(PAGE) if tag == "python"]
[SCHEMA] = [text for tag, text in FENCE.findall(PAGE) if "| psql" in text]


@pytest.fixture
def database(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ACME_DATABASE", database)
    return database


def run(*arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def rows(database: str, query: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        return connection.execute(query.encode()).fetchall()


async def paid(router: Router, message_id: str, data: Any, *, times: int = 2) -> list[Any]:
    """The answers to a request that comes so often, each time to another worker."""
    answers = []
    for _ in range(times):
        async with TestBridge(router) as bridge:
            answers.append(
                await bridge.data_transfer(
                    *("CP001", "com.acme", "Pay", data),
                    ocpp_message_id=message_id,
                    connection_id="c",
                )
            )
    return answers


async def test_the_handler_of_the_page_charges_once(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE wallets (token text, credit int)")
        connection.execute("INSERT INTO wallets VALUES ('T1', 10)")
    run("-c", CREATE.replace("postgresql:///acme", database))
    names: dict[str, Any] = {"__name__": "acme"}
    exec(compile(HANDLER, "docs/exactly-once.md", "exec"), names)
    answers = await paid(names["router"], "m-1", {"token": "T1", "price": 3})
    assert [answer.status for answer in answers] == ["Accepted"] * 2
    assert rows(database, "SELECT credit FROM wallets") == [(7,)]


def test_the_schema_of_the_page_is_printed_and_can_be_run(database: str) -> None:
    program = re.search(r'python -c "(.*?)" \|', SCHEMA)
    assert program is not None
    printed = run("-c", program[1])
    assert printed == Inbox.schema() + "\n"
    with psycopg.connect(database) as connection:
        connection.execute(printed.encode())
        connection.execute(printed.encode())
    assert rows(database, "SELECT * FROM dtbridge_inbox") == []


async def test_the_clean_up_of_the_page_removes_what_is_old(database: str) -> None:
    await Inbox.create_schema(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO dtbridge_inbox SELECT sha256(n::text::bytea), 'CallError', '',"
            " now() - make_interval(days => n) FROM generate_series(1, 9) AS n"
        )
    assert run("-c", CLEAN_UP.replace("postgresql:///acme", database)) == "3 rows removed\n"


@pytest.mark.parametrize(
    "name", ["connections", "timeout", "statement_timeout", "lock_timeout", "idle_timeout"]
)
def test_the_page_says_the_bounds_of_an_inbox(name: str) -> None:
    default = inspect.signature(Inbox).parameters[name].default
    assert re.search(rf"^\| `{name}` \| {default:g}( s)? \|", PAGE, re.MULTILINE)


async def test_the_example_charges_each_session_once(database: str) -> None:
    assert examples.sessions.DATABASE in os.environ
    for _ in range(2):
        run("-m", "examples.sessions")
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO wallets VALUES ('T1', 10)")
    session = {"token": "T1", "energy": 12.5, "price": 6.25}
    answers = await paid(examples.sessions.router, "m-1", session)
    assert [answer.data for answer in answers] == [{"credit": 3.75}] * 2
    refused = await paid(examples.sessions.router, "m-2", session)
    assert [answer.status for answer in refused] == ["Rejected"] * 2
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE wallets SET credit = 100")
    assert await paid(examples.sessions.router, "m-2", session, times=1) == refused[:1]
    assert rows(database, "SELECT station, token, price FROM sessions") == [("CP001", "T1", 6.25)]
