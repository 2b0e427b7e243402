"""The first way to a broker that works."""

from pathlib import Path

import pytest

from bridge.testing.rabbitmq import BrokerUnavailable, GivenBroker, obtain_broker
from tests.unit.testing.rabbitmq.commands import add_docker, quiet


def test_a_given_url_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTBRIDGE_AMQP_URL", "amqp://me:secret@broker.example/site")
    with obtain_broker(quiet) as broker:
        assert broker.url == "amqp://me:secret@broker.example/site"


def test_a_password_is_not_shown() -> None:
    assert (
        repr(GivenBroker("amqp://me:secret@broker.example/site"))
        == "<GivenBroker amqp://broker.example/site>"
    )


def test_docker_comes_last(nothing_installed: Path, tmp_path: Path, amqp_port: int) -> None:
    add_docker(nothing_installed, tmp_path / "docker.log", amqp_port)
    said: list[str] = []
    with obtain_broker(said.append) as broker:
        assert broker.url.endswith(f":{amqp_port}/")
    assert said == ["Starting RabbitMQ in Docker (rabbitmq:4) …"]


def test_when_nothing_works_the_error_says_so(nothing_installed: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="RabbitMQ is not installed"), obtain_broker(quiet):
        pass


def test_the_management_api_comes_with_another_image(
    nothing_installed: Path, tmp_path: Path, amqp_port: int
) -> None:
    add_docker(nothing_installed, tmp_path / "docker.log", amqp_port)
    said: list[str] = []
    with obtain_broker(said.append, management=True) as broker:
        assert broker.management_url
    assert said == ["Starting RabbitMQ in Docker (rabbitmq:4-management) …"]
