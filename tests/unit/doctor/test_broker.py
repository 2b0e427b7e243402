"""Findings about the broker itself."""

from typing import Any

import pytest

from bridge.dialects.topology import QueueType
from bridge.doctor import broker
from bridge.doctor.facts import parse_version
from bridge.doctor.findings import Level
from bridge.rabbitmq.management import Node, Overview
from bridge.rabbitmq.probing import ClockSeen, HostSeen
from tests.unit.doctor.surroundings import (
    a_broker,
    a_host,
    a_management,
    a_plan,
    findings,
    told,
    worst,
)


def test_each_host_is_told_and_what_a_refusal_needs() -> None:
    hosts = (
        HostSeen("amqp://a/", "it refused the user name or password", 4),
        HostSeen("amqp://b/", "Connection refused", 2),
        a_host(url="amqp://c/", seconds=3.0),
        a_host(url="amqp://d/"),
    )
    found = findings(broker.check_reachable, broker=a_broker(hosts=hosts))
    assert [each.level for each in found] == [Level.FAIL, Level.FAIL, Level.WARN, Level.OK]
    assert "password" in found[0].advice
    assert "firewall" in found[1].advice
    assert "3.0 s" in found[2].sentence


def version_of(text: str, **changes: Any) -> list[tuple[Level, str]]:
    return told(broker.check_version, broker=a_broker(hosts=(a_host(version=text),)), **changes)


def test_what_is_known_of_a_version_is_told() -> None:
    assert [level for level, _ in version_of("4.1.3")] == [Level.OK]
    assert [level for level, _ in version_of("4.3.0-rc.1")] == [Level.OK]
    old = version_of("3.10.8")
    assert [level for level, _ in old] == [Level.WARN]
    assert any("x-death" in sentence for _, sentence in old)
    assert any("#9221" in sentence for _, sentence in old)
    assert not any("x-death" in sentence for _, sentence in version_of("3.13.7"))
    assert Level.FAIL in {level for level, _ in version_of("3.9.13")}
    assert Level.FAIL not in {
        level for level, _ in version_of("3.9.13", queue_type=QueueType.CLASSIC, management=None)
    }
    assert [level for level, _ in version_of("")] == [Level.UNKNOWN]
    # Queues are what they are, whatever the options say.
    classic = a_management(a_plan(QueueType.CLASSIC))
    assert not any("#9221" in sentence for _, sentence in version_of("3.10.8", management=classic))


def test_a_fault_mended_in_two_series_is_told_of_neither_afterwards() -> None:
    for version, has_it in (
        ("3.11.21", True),
        ("3.11.22", False),
        ("3.12.3", True),
        ("3.12.4", False),
    ):
        assert any("#9221" in each for _, each in version_of(version)) is has_it, version


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel_max": 2}, "2 channels"),
        ({"frame_max": 4096}, "4,096 bytes"),
    ],
)
def test_limits_that_are_too_low(changes: dict[str, int], words: str) -> None:
    assert (
        words
        in worst(broker.check_negotiated, broker=a_broker(hosts=(a_host(**changes),))).sentence
    )


@pytest.mark.parametrize(("heartbeat", "level"), [(0, 1), (60, 1), (10, 0), (30, 0)])
def test_heartbeats(heartbeat: int, level: int) -> None:
    found = told(broker.check_negotiated, heartbeat=heartbeat)
    assert [each for each, _ in found] == [[Level.OK, Level.WARN][level]]


def test_without_the_management_api_it_is_said_what_is_not_known() -> None:
    found = worst(broker.check_management, management=None, management_error="no API at x")
    assert found.level is Level.UNKNOWN
    assert found.sentence.startswith("no API at x; policies")
    denied = a_management(overview=Overview("4.3.0", disable_stats=True))
    assert "has no counts" in worst(broker.check_management, management=denied).sentence


def test_alarms_of_nodes_and_of_publishers() -> None:
    nodes = (
        Node("a", running=True, mem_alarm=True),
        Node("b", running=True, disk_free_alarm=True),
        Node("c", running=False),
        Node("d", running=True, fd_used=90, fd_total=100),
    )
    found = findings(
        broker.check_alarms,
        management=a_management(nodes=nodes),
        broker=a_broker(blocked="low on memory"),
    )
    assert [each.level for each in found] == [Level.FAIL] * 4 + [Level.WARN]
    assert "low on memory" in found[0].sentence
    assert told(broker.check_alarms, management=None) == [
        (Level.OK, "the broker takes publishings")
    ]


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [
        (0.0, Level.OK, "less than a second apart"),
        (1.4, Level.WARN, "1.4 s ahead of"),
        (-6.0, Level.FAIL, "6.0 s behind"),
        (None, Level.UNKNOWN, "is not known: refused"),
    ],
)
def test_clocks(ahead: float | None, level: Level, words: str) -> None:
    [(found, sentence)] = told(
        broker.check_clock, broker=a_broker(clock=ClockSeen(ahead, "refused"))
    )
    assert found is level
    assert words in sentence


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.10.8", (3, 10, 8)),
        ("4.3", (4, 3, 0)),
        ("4.0.0-rc.2+1", (4, 0, 0)),
        ("4.x", None),
        ("", None),
        ("9" * 99 + ".1", (999_999_999, 1, 0)),
    ],
)
def test_versions(text: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(text) == version
