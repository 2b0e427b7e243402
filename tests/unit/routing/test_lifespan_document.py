"""The examples of docs/lifespan.md run, on a database that does nothing."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridge import Router
from bridge.testing import ask

PAGE = (Path(__file__).parents[3] / "docs" / "lifespan.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class Database:
    """As asyncpg: a pool, a connection and a transaction in one."""

    def __init__(self) -> None:
        self.done: list[str] = []

    @asynccontextmanager
    async def create_pool(self, url: str) -> AsyncIterator["Database"]:
        self.done.append("open")
        yield self
        self.done.append("closed")

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator["Database"]:
        yield self

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self.done.append("begin")
        yield
        self.done.append("commit")

    async def fetchval(self, query: str, *arguments: Any) -> float:
        return 0.49

    async def execute(self, query: str, *arguments: Any) -> None:
        self.done.append(query)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    module = ModuleType("asyncpg")
    vars(module).update(Pool=Database, Connection=Database, create_pool=database.create_pool)
    monkeypatch.setitem(sys.modules, "asyncpg", module)
    return database


async def test_the_examples_answer(database: Database) -> None:
    names: dict[str, Any] = {"__name__": "acme", "tariffs": Router("com.acme")}
    for block in BLOCKS[:4]:
        exec(compile(block, "docs/lifespan.md", "exec"), names)
    for router in (names["router"], names["tariffs"]):
        answer = await ask(router, "com.acme", "GetTariff", {"connectorId": 1}, version="ocpp2.1")
        assert answer.data == 0.49
    answer = await ask(names["router"], "com.acme", "SetTariff", {"connectorId": 1})
    assert answer.status == "Accepted"
    begin = database.done.index("delete from tariffs where id = $1") - 1
    assert database.done[begin::2] == ["begin", "commit"]
    stranger = await ask(
        names["router"], "com.acme", "SetTariff", {"connectorId": 1}, station_id="CP009"
    )
    assert stranger.status == "Rejected"
