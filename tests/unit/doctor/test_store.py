"""Findings about the store of replies."""

from typing import Any

import pytest

from bridge.doctor.facts import StoreSeen
from bridge.doctor.findings import Level
from bridge.doctor.store import check_store
from tests.unit.doctor.surroundings import told, worst

WELL: dict[str, Any] = {
    "version": "7.2.4",
    "seconds": 0.0003,
    "policy": "noeviction",
    "persistence": "aof",
}


def test_a_store_without_a_server() -> None:
    assert told(check_store) == [(Level.OK, "replies are kept in the memory of each worker")]
    assert worst(check_store, store_kind="none").level is Level.WARN


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"error": "Connection refused"}, Level.FAIL, "cannot be used: Connection refused"),
        ({"seconds": 0.1}, Level.WARN, "takes 100.0 ms"),
        ({"role": "slave"}, Level.FAIL, "takes no writes"),
        ({"limit": 100, "used": 90}, Level.WARN, "uses 90 of 100 bytes"),
        ({"limit": 100, "policy": "allkeys-lru"}, Level.WARN, "maxmemory-policy is allkeys-lru"),
        ({"evicted": 3}, Level.WARN, "evicted 3 keys"),
    ],
)
def test_what_may_be_wrong_with_a_redis(changes: dict[str, Any], level: Level, words: str) -> None:
    found = worst(check_store, store=StoreSeen(**(WELL | changes)), store_kind="redis")
    assert found.level is level
    assert words in found.sentence


def test_a_redis_in_which_all_is_well() -> None:
    found = told(check_store, store=StoreSeen(**(WELL | {"persistence": ""})), store_kind="redis")
    assert {level for level, _ in found} == {Level.OK}
    assert any("after its restart" in sentence for _, sentence in found)
