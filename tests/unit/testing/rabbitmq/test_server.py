"""Finding RabbitMQ's server, and installing it."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.testing.rabbitmq import BrokerUnavailable, find_server, install_server
from bridge.testing.rabbitmq.process import run_to_the_end
from bridge.testing.rabbitmq.server import APT_INSTALL, has_plugin, root_of
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


MARK = "# dtbridge: while rabbitmq-server is installed"


def installing(folder: Path, policy: Path, script: str = "exit 0") -> "subprocess.Popen[bytes]":
    """The installation on Debian, with a package manager that tells of itself and does `script`."""
    commands = folder / "commands"
    add_command(commands, "apt-get", f'[ "$1" = update ] && exit 0; echo ready; {script}')
    add_command(commands, "systemctl", "exit 0")
    path = f"{commands}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["sh", "-c", APT_INSTALL, "sh", str(policy)],
        env={**os.environ, "PATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_installation_leaves_no_policy_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    """On a terminal, the signal reaches the shell and the package manager."""
    policy = tmp_path / "policy-rc.d"
    with installing(tmp_path, policy, "read line") as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"ready\n"
        assert MARK in policy.read_text().splitlines()
        os.killpg(shell.pid, number)
        assert shell.wait(60) == 128 + number
    assert not policy.exists()


def test_what_a_killed_installation_left_behind_is_taken_away_by_the_next(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text(f"#!/bin/sh\n{MARK}\nexit 101\n")
    with installing(tmp_path, policy) as shell:
        assert shell.wait(60) == 0
    assert not policy.exists()


def test_a_policy_of_somebody_else_stays_as_it_is(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    with installing(tmp_path, policy) as shell:
        assert shell.wait(60) == 0
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


TIDY = "trap 'echo yes >{order}; exit 130' INT; echo >{begun}; while :; do sleep 0.05; done"
STUBBORN = "trap 'echo >{begun}' INT; echo >{begun}; while :; do sleep 0.05; done"


@contextlib.contextmanager
def interrupting(begun: Path, times: int) -> Iterator[None]:
    """Interrupt this process each time somebody writes to the pipe `begun`, so many times."""
    os.mkfifo(begun)

    def interrupt() -> None:
        for _ in range(times):
            begun.read_text()
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


def test_an_interrupted_command_is_waited_for_until_it_has_put_things_in_order(
    tmp_path: Path,
) -> None:
    begun, order = tmp_path / "begun", tmp_path / "order"
    shell = TIDY.format(begun=begun, order=order)
    told: list[str] = []
    with interrupting(begun, 1), pytest.raises(KeyboardInterrupt):
        run_to_the_end(["sh", "-c", shell], lambda: told.append("waiting"))
    assert (order.read_text(), told) == ("yes\n", ["waiting"])


def test_a_second_interrupt_kills_the_command(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    told: list[str] = []
    with interrupting(begun, 2), pytest.raises(KeyboardInterrupt):
        run_to_the_end(["sh", "-c", STUBBORN.format(begun=begun)], lambda: told.append("waiting"))
    assert told == ["waiting"]


def test_an_interrupt_while_the_command_is_being_started_is_passed_on_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, order = tmp_path / "begun", tmp_path / "order"
    os.mkfifo(begun)
    popen = subprocess.Popen

    def slowly(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options)
        begun.read_text()
        os.kill(os.getpid(), signal.SIGINT)  # its handler has run when this returns
        return process

    monkeypatch.setattr(subprocess, "Popen", slowly)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_to_the_end(
            ["sh", "-c", TIDY.format(begun=begun, order=order)], lambda: told.append("waiting")
        )
    assert (order.read_text(), told) == ("yes\n", ["waiting"])


def test_a_server_without_a_plugin_is_known(tmp_path: Path) -> None:
    server = add_server(tmp_path / "sbin")
    assert has_plugin(server, "rabbitmq_management")  # nobody knows
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    assert not has_plugin(server, "rabbitmq_management")
    (plugins / "rabbitmq_management-4.1.0").mkdir()
    assert has_plugin(server, "rabbitmq_management")
