"""Which connections are told of a new password, and what is said of it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from yarl import URL

from bridge.rabbitmq.connection import Connection, holds_no_secret
from bridge.rabbitmq.hosts import Hosts
from bridge.rabbitmq.renewal import Renewal, renew

BEFORE = URL("amqp://u:one@a/v")


class StandIn:
    """A connection that notes what it is told."""

    name = "me"

    def __init__(self, error: Exception | None = None) -> None:
        self.secrets: list[str] = []
        self._error = error

    async def update_secret(self, secret: str) -> None:
        if self._error is not None:
            raise self._error
        self.secrets.append(secret)


def connections(*stand_ins: StandIn) -> Sequence[Connection]:
    return cast(Sequence[Connection], stand_ins)


@pytest.mark.parametrize(
    ("urls", "told"),
    [
        (["amqp://u:two@a/v"], ["two"]),
        (["amqp://u:two@b/v", "amqp://u:three@a/v"], ["three"]),
        (["amqp://u:one@a/v"], []),
        (["amqp://other:two@a/v"], []),
        (["amqp://u:two@a/w"], []),
        (["amqp://u:two@a:1/v"], []),
        (["amqps://u:two@a/v"], []),
        (["amqp://u@a/v"], []),
        ([], []),
    ],
)
async def test_it_is_told_if_only_its_password_has_changed(
    urls: list[str], told: list[str]
) -> None:
    one, other = StandIn(), StandIn()
    url = await renew(connections(one, other), BEFORE, [URL(text) for text in urls])
    assert one.secrets == other.secrets == told
    assert url == (BEFORE.with_password(told[0]) if told else BEFORE)


async def test_one_that_is_lost_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    lost, other = StandIn(ConnectionError("the connection was lost")), StandIn()
    assert await renew(connections(lost, other), BEFORE, [URL("amqp://u:Qx7@a/v")]) != BEFORE
    assert other.secrets == ["Qx7"]
    assert "login not renewed" in caplog.text
    assert "Qx7" not in caplog.text


async def test_a_look_never_raises_and_tells_each_reason_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "url"
    file.write_text("amqp://a")
    changes: list[int] = []
    renewal = Renewal(Hosts([f"@{file}"]), lambda: changes.append(1))
    for text, count, told in (
        ("amqp://a", 0, 0),
        ("nonsense", 0, 1),
        ("nonsense", 0, 1),
        ("amqp://b", 1, 1),
        ("nonsense", 1, 2),
    ):
        file.write_text(text)
        await renewal.look()
        assert len(changes) == count
        assert len([r for r in caplog.records if "not read" in r.getMessage()]) == told


def test_the_librarys_log_holds_no_secret() -> None:
    class Frame:
        def __init__(self, payload: bytes) -> None:
            self.payload = payload

    def record(argument: Any) -> logging.LogRecord:
        return logging.LogRecord("x", 10, "x", 1, "Prepare to send %r", (argument,), None)

    update = b"\x01\x00\x00\x00\x00\x00\x20\x00\x0a\x00\x46\x00\x00\x00\x03Qx7"
    other = b"\x01\x00\x01\x00\x00\x00\x05\x00\x14\x00\x0a\x00"
    assert not holds_no_secret(record(Frame(update)))
    assert holds_no_secret(record(Frame(other)))
    assert holds_no_secret(record("text"))
