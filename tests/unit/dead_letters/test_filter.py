"""Which dead letters are wanted, and the words in which people say it."""

import datetime as dt
from typing import Any

import msgspec
import pytest

from bridge.dead_letters.filter import (
    Filter,
    parse_age,
    parse_id,
    parse_reasons,
    parse_time,
)
from bridge.dead_letters.letter import ID_LENGTH, REASONS, DeadLetter

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


def a_letter(**changes: Any) -> DeadLetter:
    letter = DeadLetter(
        id="0" * ID_LENGTH,
        reason="failed",
        error="ValueError: no",
        vendor="com.Acme",
        message="GetTariff",
        station="CP1",
        ocpp_version="ocpp1.6",
        ocpp_message_id="17",
        attempts=1,
        first_try=None,
        failed_at=NOW - dt.timedelta(hours=1),
        worker="host:1",
        exchange="datatransfer",
        routing_key="com.acme",
        replayed=0,
        size=2,
        replayable=True,
    )
    return msgspec.structs.replace(letter, **changes)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Filter(), True),
        (Filter(vendor="COM.acme"), True),
        (Filter(vendor="com"), False),
        (Filter(message="gettariff"), True),
        (Filter(message=""), False),
        (Filter(station="CP1"), True),
        (Filter(station="cp1"), False),
        (Filter(reasons=frozenset({"expired", "failed"})), True),
        (Filter(reasons=frozenset({"expired"})), False),
        (Filter(older_than=3599), True),
        (Filter(older_than=3600), False),
        (Filter(newer_than=3601), True),
        (Filter(newer_than=3600), False),
        (Filter(older_than=60, newer_than=7200), True),
        (Filter(since=NOW - dt.timedelta(hours=1)), True),
        (Filter(since=NOW - dt.timedelta(minutes=59)), False),
        (Filter(until=NOW - dt.timedelta(minutes=59)), True),
        (Filter(until=NOW - dt.timedelta(hours=1)), False),
        (Filter(replayed=True), False),
        (Filter(ids=frozenset({"0" * ID_LENGTH, "1"})), True),
        (Filter(ids=frozenset({"0", "1"})), False),
        (Filter(vendor="com.acme", station="other"), False),
    ],
)
def test_every_condition_of_a_filter_must_be_met(wanted: Filter, taken: bool) -> None:
    assert wanted.takes(a_letter(), NOW) is taken


def test_the_empty_message_means_requests_without_one() -> None:
    assert Filter(message="").takes(a_letter(message=""), NOW)


def test_what_does_not_say_when_it_died_is_neither_older_nor_newer() -> None:
    letter = a_letter(failed_at=None)
    assert Filter().takes(letter, NOW)
    assert not Filter(older_than=0).takes(letter, NOW)
    assert not Filter(newer_than=1e9).takes(letter, NOW)
    assert not Filter(since=NOW - dt.timedelta(days=9999)).takes(letter, NOW)
    assert not Filter(until=NOW).takes(letter, NOW)


def test_what_came_back_after_a_replay_is_wanted_where_that_is_asked_for() -> None:
    assert Filter(replayed=True).takes(a_letter(replayed=1), NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800), ("1.5h", 5400), (" 0s ", 0)],
)
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1w", "1h30m", "1e3s", "٣h"])
def test_what_is_no_age_is_said(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"is not an age: expected .* for example 90s, 15m, 2h or 7d"
    ):
        parse_age(text)


def test_an_unknown_reason_is_said_with_the_known_ones() -> None:
    assert parse_reasons(list(REASONS)) == set(REASONS)
    with pytest.raises(ValueError, match=r"'fail' is no reason: expected failed, .*delivery_limit"):
        parse_reasons(["failed", "fail"])


@pytest.mark.parametrize("text", ["", "xyz", "0" * 13, "-1", "a%"])
def test_what_cannot_begin_an_id_is_said(text: str) -> None:
    assert parse_id(" 0aF ") == "0af"
    with pytest.raises(ValueError, match="is not an id"):
        parse_id(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("today", dt.datetime(2026, 3, 1, tzinfo=dt.UTC)),
        (" Yesterday ", dt.datetime(2026, 2, 28, tzinfo=dt.UTC)),
        ("2026-02-03", dt.datetime(2026, 2, 3, tzinfo=dt.UTC)),
        ("2026-02-03T04:05", dt.datetime(2026, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ("2026-02-03 04:05:06Z", dt.datetime(2026, 2, 3, 4, 5, 6, tzinfo=dt.UTC)),
        ("2026-02-03T04:05+01:00", dt.datetime(2026, 2, 3, 3, 5, tzinfo=dt.UTC)),
        ("2026-02-03+01:00", dt.datetime(2026, 2, 2, 23, tzinfo=dt.UTC)),
        ("todayZ", dt.datetime(2026, 3, 1, tzinfo=dt.UTC)),
        ("yesterday+01:00", dt.datetime(2026, 2, 27, 23, tzinfo=dt.UTC)),
        ("yesterday-0530", dt.datetime(2026, 2, 28, 5, 30, tzinfo=dt.UTC)),
        # In Auckland it is tomorrow already.
        ("today+13:00", dt.datetime(2026, 3, 1, 11, tzinfo=dt.UTC)),
    ],
)
def test_times(text: str, time: dt.datetime) -> None:
    assert parse_time(text, NOW) == time


@pytest.mark.parametrize(
    "text", ["", "soon", "03/01/2026", "2026-13-01", "0001-01-01T00:00+09:00", "today+25:00"]
)
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time: expected today, yesterday"):
        parse_time(text, NOW)


def test_the_times_that_are_wanted_are_known_and_none_at_all_is_a_mistake() -> None:
    hour = dt.timedelta(hours=1)
    assert Filter().span(NOW) == (None, None)
    assert Filter(since=NOW - hour, newer_than=60).span(NOW) == (NOW - hour / 60, None)
    assert Filter(until=NOW, older_than=7200).span(NOW) == (None, NOW - 2 * hour)
    for nothing in (
        Filter(since=NOW, until=NOW),
        Filter(newer_than=3600, older_than=7200),
        Filter(since=NOW, older_than=60),
        Filter(newer_than=60, until=NOW - hour),
    ):
        with pytest.raises(ValueError, match=r"no time is from .* and before"):
            nothing.span(NOW)
