"""Finding RabbitMQ's server, and installing it."""

import os
from pathlib import Path

import pytest

from bridge.testing.rabbitmq import BrokerUnavailable, find_server, install_server
from bridge.testing.rabbitmq.server import root_of
from tests.unit.testing.rabbitmq.commands import add_command, add_server, quiet


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
    assert root_of(server) is None, "without Erlang it is only a folder"
    add_command(tmp_path / "usr" / "bin", "erl", "exit 1")
    assert root_of(server) == tmp_path
    assert root_of(Path("/usr/lib/rabbitmq/bin/rabbitmq-server")) is None


def test_a_variable_that_names_no_server_is_an_error_that_shows_it(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTBRIDGE_RABBITMQ_SERVER", "/nowhere")
    with pytest.raises(
        BrokerUnavailable,
        match="DTBRIDGE_RABBITMQ_SERVER names no rabbitmq-server script: /nowhere",
    ):
        find_server()


# --- installing ---


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
