"""Where a gateway listens, and what it needs."""

import inspect
import resource
import subprocess
import sys

import pytest
import typer

from bridge.cli.addresses import parse_listen
from bridge.cli.gateway import _allow_files, _versions, gateway, share_of
from bridge.gateway.websocket.settings import GatewaySettings


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(typer.Exit):
        gateway()
    assert capsys.readouterr().err == (
        "dtbridge: the gateway needs the extra: pip install 'datatransfer-bridge[gateway]'\n"
    )


@pytest.mark.parametrize(
    ("limits", "becomes", "told"),
    [
        ((1024, 4096), (1100, 4096), False),
        ((1024, 1050), (1050, 1050), True),
        ((1024, resource.RLIM_INFINITY), (1100, resource.RLIM_INFINITY), False),
        ((2000, 4096), None, False),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, False),
    ],
)
def test_the_limit_of_file_descriptors_is_raised_as_far_as_it_may(
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    becomes: tuple[int, int] | None,
    told: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    became: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    monkeypatch.setattr("resource.setrlimit", lambda _, value: became.append(value))
    _allow_files(1000)
    assert became == ([] if becomes is None else [becomes])
    assert [record.__dict__["bridge"]["event"] for record in caplog.records] == (
        ["few file descriptors"] if told else []
    )


@pytest.mark.parametrize(
    ("connections", "processes", "share"), [(10_000, 1, 10_000), (10_000, 3, 3334), (1, 4, 1)]
)
def test_the_processes_share_the_connections(connections: int, processes: int, share: int) -> None:
    assert share_of(connections, processes) == share


def test_several_processes_are_refused_where_the_kernel_does_not_share_connections_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bridge.cli.shared_port.sys.platform", "darwin")
    with pytest.raises(typer.Exit) as ended:
        gateway(processes=2)
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == (
        "dtbridge: --processes above 1 needs Linux, which alone shares connections out among the "
        "processes that listen on a port\n"
    )


def test_the_commands_defaults_are_the_servers() -> None:
    options = {
        name: parameter.default for name, parameter in inspect.signature(gateway).parameters.items()
    }
    defaults = GatewaySettings()
    named = {field for field in defaults.__struct_fields__ if field in options}
    assert len(named) >= 9
    assert {name: options[name] for name in named} == {
        name: getattr(defaults, name) for name in named
    }
    assert parse_listen(options["listen"]) == (defaults.host, defaults.port)
    assert tuple(_versions(options["ocpp_versions"])) == defaults.versions


def test_all_but_the_server_is_imported_without_the_extra() -> None:
    program = (
        "import sys; sys.modules['websockets'] = None\n"
        "import bridge.cli.main, bridge.gateway.websocket.connection"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
