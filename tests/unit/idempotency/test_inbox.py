"""What of an inbox needs no database: its SQL, and what is said where its library is missing."""

import sys

import pytest

import bridge.idempotency
from bridge.idempotency import Inbox
from bridge.idempotency.inbox_table import statements


def test_the_name_of_a_table_is_quoted_wherever_it_stands() -> None:
    found = statements("acme.Inbox")
    assert 'CREATE TABLE IF NOT EXISTS "acme"."Inbox"' in found.schema
    assert 'CREATE INDEX IF NOT EXISTS "Inbox_handled_at" ON "acme"."Inbox"' in found.schema
    for each in (found.begin, found.keep, found.forget, found.clean_up, found.probe):
        assert b'"acme"."Inbox"' in each


@pytest.mark.parametrize("table", ["", "a.b.c", 'a"', "a b", "a;", "1a", ".a", "a.", "ä", "a-b"])
def test_what_is_no_name_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match=r"NAME or SCHEMA\.NAME"):
        statements(table)
    with pytest.raises(ValueError, match=r"NAME or SCHEMA\.NAME"):
        Inbox("", table=table)


def test_the_schema_is_that_of_the_table() -> None:
    assert Inbox.schema("acme.inbox") == statements("acme.inbox").schema


@pytest.mark.parametrize(
    ("name", "module", "library"),
    [
        ("Inbox", "postgres", "psycopg"),
        ("exactly_once", "postgres", "psycopg"),
        ("RedisStore", "redis", "redis"),
    ],
)
def test_without_its_library_a_name_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, library: str
) -> None:
    monkeypatch.delitem(sys.modules, f"bridge.idempotency.{module}", raising=False)
    for each in [each for each in sys.modules if each.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=rf"'datatransfer-bridge\[{module}\]'"):
        getattr(bridge.idempotency, name)
