"""RabbitMQ in a container."""

from pathlib import Path

import pytest

from bridge.testing.rabbitmq import BrokerUnavailable, DockerBroker, free_ports
from tests.unit.testing.rabbitmq.commands import add_command, add_docker


def test_a_container_is_published_on_loopback_and_removed_at_the_end(
    commands: Path, tmp_path: Path, amqp_port: int
) -> None:
    log = tmp_path / "docker.log"
    add_docker(commands, log, amqp_port)
    with DockerBroker(image="rabbitmq:9") as broker:
        assert broker.url == f"amqp://guest:guest@127.0.0.1:{amqp_port}/"
    assert log.read_text().splitlines() == [
        f"run --rm --detach --name {broker.name} --publish 127.0.0.1::5672 rabbitmq:9",
        f"port {broker.name} 5672/tcp",
        f"rm --force {broker.name}",
    ]


def test_the_management_api_is_published_where_it_is_asked_for(
    commands: Path, tmp_path: Path, amqp_port: int
) -> None:
    log = tmp_path / "docker.log"
    add_docker(commands, log, amqp_port)
    with DockerBroker(management=True) as broker:
        assert broker.management_url == f"http://guest:guest@127.0.0.1:{amqp_port}/"
    told = log.read_text()
    assert "--publish 127.0.0.1::15672" in told
    assert f"port {broker.name} 15672/tcp" in told
    assert DockerBroker().management_url == ""


def test_a_container_that_never_answers_is_removed(commands: Path, tmp_path: Path) -> None:
    log = tmp_path / "docker.log"
    add_docker(commands, log, free_ports(1)[0])
    broker = DockerBroker(start_timeout=0.1)
    with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.1 s"), broker:
        pass
    assert log.read_text().splitlines()[-1] == f"rm --force {broker.name}"


def test_what_docker_complains_of_is_passed_on(commands: Path) -> None:
    add_command(commands, "docker", "echo 'no such image' >&2; exit 125")
    with pytest.raises(BrokerUnavailable, match="docker run failed: no such image"), DockerBroker():
        pass


@pytest.mark.parametrize(("script", "usable"), [("exit 0", True), ("exit 1", False), (None, False)])
def test_docker_is_usable_when_its_engine_answers(
    commands: Path, script: str | None, usable: bool
) -> None:
    if script is not None:
        add_command(commands, "docker", script)
    assert DockerBroker.usable() is usable
