"""Where a gateway listens, and what it needs."""

import subprocess
import sys

import pytest
import typer

from bridge.gateway_cli import gateway, parse_listen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("localhost:0", ("localhost", 0)),
        (":9000", (None, 9000)),
        ("[::]:9000", ("::", 9000)),
        ("[::1]:9000", ("::1", 9000)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str | None, int]) -> None:
    assert parse_listen(text) == expected


NONE = """
9000 localhost localhost: localhost:http localhost:99999 localhost:-1 ::1:9000 [::1] [x]:1 [localhost]:1
ws://localhost:9000 localhost:9000/ocpp a@localhost:9000
"""


@pytest.mark.parametrize("text", ["", "local host:9000", *NONE.split()])
def test_anything_else_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT, for example"):
        parse_listen(text)


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(typer.Exit):
        gateway()
    assert capsys.readouterr().err == (
        "dtbridge: the gateway needs the extra: pip install 'datatransfer-bridge[gateway]'\n"
    )


def test_all_but_the_server_is_imported_without_the_extra() -> None:
    program = "import sys; sys.modules['websockets'] = None; import bridge.cli, bridge.gateway.connection"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
