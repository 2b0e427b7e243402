"""The probe of a container: an address, an answer, one line."""

import http
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from bridge.cli.probe import LIVE, READY, ask, parse_address, printable, probe
from bridge.telemetry.http import Answer, Listener, text


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (":9100", ("localhost", 9100)),
        ("0.0.0.0:9100", ("127.0.0.1", 9100)),
        ("[::]:9100", ("::1", 9100)),
        ("[::1]:9100", ("::1", 9100)),
        ("worker-1:9100", ("worker-1", 9100)),
        ("http://worker-1:9100", ("worker-1", 9100)),
        ("http://worker-1:9100/", ("worker-1", 9100)),
    ],
)
def test_a_process_is_asked_where_it_listens(given: str, asked: tuple[str, int]) -> None:
    assert parse_address(given) == asked


@pytest.mark.parametrize(
    "given", ["", "9100", "host", "host:", "https://host:1", "host:70000", "a b:1", "[x]:1", ":0"]
)
def test_what_cannot_be_asked_is_told(given: str) -> None:
    with pytest.raises(ValueError, match=r"is not HOST:PORT|port 0"):
        parse_address(given)


def answering(ok: bool, reason: str) -> Answer:
    body = json.dumps({"ok": ok, "reason": reason, "checks": {"unknown": [1]}}).encode()
    status = http.HTTPStatus.OK if ok else http.HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(body, "application/json", status)


@pytest.fixture
def address() -> Iterator[str]:
    listener = Listener.on_port("127.0.0.1", 0)
    listener.start(
        {
            LIVE: lambda *_: answering(True, ""),
            READY: lambda *_: answering(False, "broker: \x1b[31mgone"),
            "/other": lambda *_: text("no JSON"),
        }
    )
    yield listener.address
    listener.close()


def test_what_is_well_and_what_is_not_is_told_in_a_line(address: str) -> None:
    assert probe(address, LIVE) == (True, "live")
    assert probe(address, READY) == (False, "not ready: broker: \x1b[31mgone")
    assert printable(probe(address, READY).line) == "not ready: broker: ?[31mgone"


def test_what_is_no_page_of_health_is_told(address: str) -> None:
    ok, line = probe(address, "/other")
    assert not ok
    assert line.endswith("/other is not a page of health: it answers with status 200")


def test_nobody_there_and_somebody_silent_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        ok, line = probe(f"{host}:{port}", LIVE, 0.1)
        assert (ok, line) == (False, f"http://{host}:{port}/livez does not answer within 0.1 s")
    ok, line = probe(f"{host}:{port}", LIVE)
    assert (ok, line) == (False, f"http://{host}:{port}/livez: Connection refused")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", "does not speak HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "was cut off"),
    ],
)
def test_what_is_no_answer_is_told(sent: bytes, told: str) -> None:
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with theirs:
            theirs.recv(1024)
            theirs.sendall(sent)

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(ValueError, match=told):
        ask(lambda _: ours, "/", 10.0)
    thread.join()


def test_a_probe_imports_neither_the_commands_nor_the_broker() -> None:
    """It is a process every few seconds."""
    program = (
        "import sys\n"
        "sys.argv = ['dtbridge', 'health', '127.0.0.1:1']\n"
        "from bridge.cli.start import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert ended.code == 1\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    line, modules = done.stdout.splitlines()
    assert line == "http://127.0.0.1:1/readyz: Connection refused"
    heavy = {"typer", "rich", "structlog", "prometheus_client", "aio_pika", "ssl", "http.client"}
    assert not heavy & set(modules.split())
