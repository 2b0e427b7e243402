"""How RabbitMQ is found, installed or borrowed, tried with stand-ins for the system's commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.testing.rabbitmq import server
from tests.unit.testing.rabbitmq.commands import START_FRAME, answering


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH; a test puts its commands there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def nothing_installed(commands: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No server where packages put one; the same folder as `commands`."""
    monkeypatch.setattr(server, "SERVER_FOLDERS", ())
    monkeypatch.setattr(server, "SERVER_PATTERNS", ())
    monkeypatch.delenv("DTBRIDGE_RABBITMQ_SERVER", raising=False)
    return commands


@pytest.fixture
def amqp_port() -> Iterator[int]:
    """A server that answers each connection's first bytes with Connection.Start."""
    with answering(START_FRAME) as port:
        yield port
