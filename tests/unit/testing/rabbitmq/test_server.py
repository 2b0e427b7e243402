"""How a RabbitMQ is found, installed or borrowed. Commands of the system are played by small scripts on PATH."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.testing.rabbitmq import server as servers
from bridge.testing.rabbitmq.__main__ import main
from bridge.testing.rabbitmq.docker import DockerBroker
from bridge.testing.rabbitmq.home import Home, free_ports, speaks_amqp
from bridge.testing.rabbitmq.node import PrivateBroker
from bridge.testing.rabbitmq.obtain import GivenBroker, obtain_broker
from bridge.testing.rabbitmq.server import BrokerUnavailable, find_server, install_server

START_FRAME = b"\x01\x00\x00\x00\x00\x00\x1c\x00\x0a\x00\x0a\x00\x09" + bytes(23) + b"\xce"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH; a test puts its commands there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def add_command(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def add_server(folder: Path) -> Path:
    """What tells the package's own script from a wrapper: it stands beside rabbitmq-env."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rabbitmq-env").touch()
    add_command(folder, "rabbitmq-server", "exit 1")
    return folder / "rabbitmq-server"


@pytest.fixture
def nothing_installed(commands: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(servers, "_SERVER_FOLDERS", ())
    monkeypatch.setattr(servers, "_SERVER_PATTERNS", ())
    monkeypatch.delenv("DTBRIDGE_RABBITMQ_SERVER", raising=False)
    return commands


# --- finding ----------------------------------------------------------------------------------------------------------


def test_without_a_server_none_is_found(nothing_installed: Path) -> None:
    assert find_server() is None


def test_a_wrapper_on_path_is_not_the_server(nothing_installed: Path) -> None:
    add_command(nothing_installed, "rabbitmq-server", "exec su rabbitmq")
    assert find_server() is None


def test_a_link_on_path_leads_to_the_server(nothing_installed: Path, tmp_path: Path) -> None:
    server = add_server(tmp_path / "opt" / "sbin")
    (nothing_installed / "rabbitmq-server").symlink_to(server)
    assert find_server() == server


@pytest.mark.parametrize("given", ["", "sbin", "sbin/rabbitmq-server"])
def test_the_variable_names_the_script_or_a_folder(
    nothing_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    unpacked = tmp_path / "rabbitmq_server-4.1.0"
    server = add_server(unpacked / "sbin")
    monkeypatch.setenv("DTBRIDGE_RABBITMQ_SERVER", str(unpacked / given))
    assert find_server() == server


def test_the_variable_may_name_the_root_folder_of_another_linux(
    nothing_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = add_server(tmp_path / "usr" / "lib" / "rabbitmq" / "bin")
    monkeypatch.setenv("DTBRIDGE_RABBITMQ_SERVER", str(tmp_path))
    assert find_server() == server
    assert servers.root_of(server) is None, "without Erlang it is only a folder"
    add_command(tmp_path / "usr" / "bin", "erl", "exit 1")
    assert servers.root_of(server) == tmp_path
    assert servers.root_of(Path("/usr/lib/rabbitmq/bin/rabbitmq-server")) is None


def test_programs_of_another_linux_run_in_its_root_folder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    try:
        command = home.command(tmp_path / "usr/lib/rabbitmq/bin/rabbitmqctl", "status")
        assert command[-2:] == ["/usr/lib/rabbitmq/bin/rabbitmqctl", "status"]
        assert command[0] == "unshare"
        assert {str(tmp_path), str(home.folder)} < set(command)
    finally:
        home.close()


def test_a_variable_that_names_no_server_is_an_error_that_shows_it(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTBRIDGE_RABBITMQ_SERVER", "/nowhere")
    with pytest.raises(
        BrokerUnavailable,
        match="DTBRIDGE_RABBITMQ_SERVER names no rabbitmq-server script: /nowhere",
    ):
        find_server()


def test_a_private_broker_without_a_server_says_so(nothing_installed: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="RabbitMQ is not installed"):
        PrivateBroker()


# --- installing -------------------------------------------------------------------------------------------------------


def quiet(_line: str) -> None:
    pass


def test_without_a_package_manager_the_sentence_says_what_to_do(nothing_installed: Path) -> None:
    with pytest.raises(
        BrokerUnavailable, match=r"neither apt-get nor Homebrew .* DTBRIDGE_AMQP_URL"
    ):
        install_server(quiet)


def test_an_ordinary_user_without_sudo_is_told_the_command(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    add_command(nothing_installed, "apt-get", "exit 0")
    add_command(nothing_installed, "sudo", "echo 'a password is required' >&2; exit 1")
    said: list[str] = []
    with pytest.raises(
        BrokerUnavailable, match="needs root: run `sudo apt-get install rabbitmq-server`"
    ):
        install_server(said.append)
    assert said == []


def test_on_debian_the_package_is_installed_through_sudo_and_its_service_is_not_started(
    nothing_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    server = add_server(tmp_path / "sbin")
    add_command(nothing_installed, "apt-get", "exit 0")
    link = f"/bin/ln -s {server} {nothing_installed}/rabbitmq-server"
    add_command(
        nothing_installed, "sudo", f'[ "$2" = true ] && exit 0; {link}; echo "$*" >{tmp_path}/asked'
    )
    assert install_server(quiet) == server
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("-n sh -c")
    assert "install -q -y --no-install-recommends rabbitmq-server" in asked
    assert "policy-rc.d" in asked


def test_with_homebrew_the_package_is_called_rabbitmq(
    nothing_installed: Path, tmp_path: Path
) -> None:
    server = add_server(tmp_path / "sbin")
    link = f"/bin/ln -s {server} {nothing_installed}/rabbitmq-server"
    add_command(nothing_installed, "brew", f'[ "$*" = "install rabbitmq" ] && {link}')
    assert install_server(quiet) == server


def test_a_failed_installation_shows_the_last_thing_said(nothing_installed: Path) -> None:
    add_command(nothing_installed, "brew", "echo working; echo 'Error: no space left' >&2; exit 1")
    with pytest.raises(BrokerUnavailable, match="could not be installed: Error: no space left"):
        install_server(quiet)


# --- Docker -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def amqp_port() -> Iterator[int]:
    """A server that answers each connection's first bytes with Connection.Start."""
    with answering(START_FRAME) as port:
        yield port


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(8)
                        connection.sendall(reply)

        server = threading.Thread(target=serve)
        server.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def add_docker(commands: Path, log: Path, port: int) -> None:
    add_command(
        commands, "docker", f'echo "$*" >>{log}; [ "$1" = port ] && echo "127.0.0.1:{port}"; exit 0'
    )


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


# --- the first way that works -----------------------------------------------------------------------------------------


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


def test_when_nothing_works_the_error_is_one_sentence(
    nothing_installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BrokerUnavailable, match="RabbitMQ is not installed"), obtain_broker(quiet):
        pass
    assert main(["ensure"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_command_gets_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["destroy"]) == 2
    assert "ensure|run" in capsys.readouterr().err


# --- ports and handshakes ---------------------------------------------------------------------------------------------


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with contextlib.ExitStack() as held:
        for port in ports:
            held.enter_context(socket.create_server(("127.0.0.1", port)))


@pytest.mark.parametrize(
    ("reply", "is_amqp"),
    [
        (START_FRAME, True),
        (b"AMQP\x00\x00\x09\x01", False),
        (b"HTTP/1.1 400 Bad Request\r\n", False),
        (b"", False),
    ],
)
def test_only_connection_start_counts_as_ready(reply: bytes, is_amqp: bool) -> None:
    with answering(reply) as port:
        assert speaks_amqp("127.0.0.1", port) is is_amqp


def test_a_closed_port_is_not_ready() -> None:
    assert not speaks_amqp("127.0.0.1", free_ports(1)[0])
