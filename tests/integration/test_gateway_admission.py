"""Who is let in by the WebSocket server, what is said of the others, and what they may use up."""

import asyncio
import base64
import contextlib
import gc
import json
import ssl
import threading
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request

from bridge.gateway.websocket.opening import HANDSHAKE_BYTES
from bridge.gateway.websocket.passwords import PasswordFile, PasswordHash, SharedPassword
from bridge.gateway.websocket.rivals import FREE
from tests.integration.gateway_server import Running, refusal, running
from tests.integration.raw_station import (
    OPENING,
    PATIENCE,
    TEXT,
    Peer,
    make_certificate,
    peer,
    raw_station,
    websocket_frame,
)

SOON = 0.2
"""Seconds that a test waits where time has to pass."""


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    lines = [record.__dict__.get("bridge", {}) for record in caplog.records]
    return [line for line in lines if line.get("event") == event]


@pytest.fixture(autouse=True)
def _lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bridge")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server and of a client that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    make_certificate(cert, key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=str(cert))


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


# ---- a refused handshake leaves a line and a count ----


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        (OPENING.replace("GET", "POST"), "the method is not GET"),
        (OPENING.replace("HTTP/1.1", "HTTP/1.0"), "not HTTP/1.1"),
        (OPENING.replace("Upgrade: websocket\r\n", ""), "it asks for no WebSocket"),
        (OPENING.replace("Version: 13", "Version: 99"), "not a WebSocket handshake"),
        (OPENING.replace("HTTP/1.1", "HTTP/9.9"), "unreadable request"),
        ("hello\r\n\r\n", "unreadable request"),
        ("\x16\x03\x01\x02\r\n\r\n", "unreadable request"),
        ("GET /" + "x" * 9000 + " HTTP/1.1\r\n\r\n", "the request is too large"),
        ("GET / HTTP/1.1\r\n" + "A: b\r\n" * 200 + "\r\n", "the request is too large"),
        (OPENING.replace("{station}", ""), "no station in the path"),
    ],
)
async def test_a_refused_handshake_is_told_and_counted_by_its_cause(
    request_: str, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as here, peer(here.port) as client:
        client.writer.write(request_.replace("{station}", "CP001").encode())
        await client.until_closed()
        await until(lambda: here.gateway.counts.refused)
        assert here.gateway.counts.causes == {cause: 1}
        [line] = told(caplog, "connection refused")
        assert line["reason"] == cause
        assert line["address"].startswith("127.0.0.1:")


async def test_a_failed_tls_handshake_is_told_and_counted(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tls=tls[0]) as here, peer(here.port) as client:
        client.writer.write(OPENING.format(station="CP001").encode())
        await client.until_closed()
        await until(lambda: here.gateway.counts.refused)
        assert here.gateway.counts.causes == {"TLS failed": 1}
        [line] = told(caplog, "connection refused")
        assert "HTTP_REQUEST" in line["detail"]


async def test_a_handshake_that_is_not_finished_is_told_and_a_look_at_the_port_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(handshake_timeout=SOON) as here:
        async with peer(here.port):
            pass
        async with peer(here.port) as client:
            client.writer.write(b"GET /CP001 HTTP/1.1\r\n")
            await client.until_closed()
        await until(lambda: here.gateway.counts.refused)
        assert here.gateway.counts.causes == {"the handshake was not finished": 1}


async def test_lines_of_one_cause_are_few_and_the_rest_is_told_as_a_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(max_connections=1) as here, here.station():
        for _ in range(30):
            async with peer(here.port) as client:
                assert await client.until_closed() == b""
        await until(lambda: here.gateway.counts.cut_off == 30)
    assert len(told(caplog, "connection cut off")) == 10
    [line] = told(caplog, "and more like it")
    assert (line["reason"], line["more"]) == ("too many connections", 20)


# ---- places ----


@contextlib.asynccontextmanager
async def silent(here: Running, number: int) -> AsyncIterator[list[Peer]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(peer(here.port)) for _ in range(number)]


@pytest.mark.parametrize("over_tls", [False, True])
async def test_silent_peers_do_not_keep_a_station_out(
    over_tls: bool, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """They hold half of the places at most, and the oldest makes room; TLS is counted too."""
    server, client = tls if over_tls else (None, None)
    async with running(tls=server, max_connections=20) as here, silent(here, 200):
        await until(lambda: here.gateway.counts.cut_off == 190)
        await until(lambda: here.gateway.connections == 10)
        async with here.station(ssl=client) as station:
            assert (await station.call("Heartbeat"))[0] == 3


def test_so_it_is_on_the_event_loop_that_the_command_uses(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """It reads what comes with a connection before anything can be said about it."""

    async def scenario() -> None:
        server, client = tls
        async with running(tls=server, max_connections=20) as here, silent(here, 50):
            await until(lambda: here.gateway.counts.cut_off == 40)
            for _ in range(3):
                async with here.station(ssl=client) as station:
                    assert (await station.call("Heartbeat"))[0] == 3

    uvloop.run(scenario())


@pytest.mark.parametrize("over_tls", [False, True])
async def test_a_further_connection_is_closed_at_once_and_leaves_nothing(
    over_tls: bool, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = tls if over_tls else (None, None)
    async with running(tls=server, max_connections=1) as here, here.station(ssl=client) as station:
        for _ in range(5):
            async with peer(here.port) as further:
                assert await further.until_closed() == b""
        await until(lambda: here.gateway.connections == 1)
        assert (await station.call("Heartbeat"))[0] == 3


async def test_an_address_can_be_given_fewer_places_than_there_are() -> None:
    async with running(max_per_address=1) as here, here.station() as first:
        async with peer(here.port) as second:
            assert await second.until_closed() == b""
        assert here.gateway.counts.causes == {"too many connections of its address": 1}
        assert (await first.call("Heartbeat"))[0] == 3


async def test_a_request_is_bounded_before_it_has_ended() -> None:
    async with running() as here, peer(here.port) as client:
        line = b"X-Padding: " + b"x" * 5000 + b"\r\n"
        client.writer.write(b"GET /CP001 HTTP/1.1\r\n")
        sent = await client.until_cut_off(line)
        assert sent < HANDSHAKE_BYTES + 4_000_000  # and what the system takes meanwhile
        await until(lambda: here.gateway.counts.refused)
        assert here.gateway.counts.causes == {"the request is too large": 1}


async def test_a_station_that_is_let_in_leaves_no_request_behind() -> None:
    async with running() as here, here.station(headers={"X-A": "x" * 5000}) as station:
        await station.call("Heartbeat")
        gc.collect()
        requests = [each for each in gc.get_objects() if isinstance(each, Request)]
        # The station's own library keeps the one that it has sent.
        assert [each for each in requests if each is not station.connection.request] == []


# ---- passwords ----


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    lines = [f"CP{number:03}:{PasswordHash.of(b'right')}\n" for number in range(3)]
    path.write_text("".join(lines))
    return path


async def test_a_station_that_guesses_is_slowed_and_its_remembered_password_is_not(
    file: Path,
) -> None:
    async with running(PasswordFile(file)) as here:
        async with here.station("CP001", password=b"right"):
            pass
        answers = [await refusal(here, "/CP001", password=b"wrong") for _ in range(8)]
        assert answers == [401] * 5 + [429] * 3
        with pytest.raises(InvalidStatus) as caught:
            async with here.station("CP001", password=b"wrong"):
                pass
        assert 0 < int(caught.value.response.headers["Retry-After"]) <= 60
        for name in ("CP001", "CP002"):
            async with here.station(name, password=b"right") as station:
                assert (await station.call("Heartbeat"))[0] == 3


async def test_a_hundred_guesses_at_once_are_no_more_than_one_after_the_other(file: Path) -> None:
    async with running(PasswordFile(file)) as here:
        guesses = (refusal(here, "/CP001", password=b"%d" % number) for number in range(100))
        answers = await asyncio.gather(*guesses)
        assert (answers.count(401), answers.count(429)) == (5, 95)


async def test_a_station_whose_password_is_removed_or_changed_is_disconnected(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.gateway.websocket.server.PASSWORDS_AGE", 0.02)
    lines = file.read_text().splitlines(keepends=True)
    async with (
        running(PasswordFile(file)) as here,
        here.station("CP000", password=b"right") as stays,
        here.station("CP001", password=b"right") as changed,
        here.station("CP002", password=b"right") as removed,
    ):
        file.write_text(lines[0] + f"CP001:{PasswordHash.of(b'new')}\n")
        for station in (changed, removed):
            assert await station.closed() == (1008, "its password was removed or changed")
        assert (await stays.call("Heartbeat"))[0] == 3
        assert await refusal(here, "/CP001", password=b"right") == 401
        async with here.station("CP001", password=b"new") as station:
            assert (await station.call("Heartbeat"))[0] == 3


async def test_a_station_whose_password_is_removed_while_it_waits_for_its_turn_is_closed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.gateway.websocket.server.PASSWORDS_AGE", 0.02)
    monkeypatch.setattr("bridge.gateway.websocket.rivals.FIRST_PAUSE", 3600.0)
    monkeypatch.setattr("bridge.gateway.websocket.rivals.LONGEST_PAUSE", 3600.0)
    monkeypatch.setattr("bridge.gateway.websocket.rivals.CALM", 7200.0)
    async with running(PasswordFile(file)) as here, contextlib.AsyncExitStack() as open_ones:
        for _ in range(FREE + 2):
            last = await open_ones.enter_async_context(here.station("CP001", password=b"right"))
        await until(lambda: "CP001" in here.gateway._rivals._waiting)
        file.write_text(f"CP001:{PasswordHash.of(b'new')}\n")
        assert await last.closed() == (1008, "its password was removed or changed")
        causes = here.gateway.counts.causes
        assert causes == {"its password was removed or changed": 1}


async def test_a_station_may_have_a_user_name_and_several_passwords(file: Path) -> None:
    lines = (f"CP001:{PasswordHash.of(key)} user=admin" for key in (b"old", b"new"))
    file.write_text("\n".join(lines))
    async with running(PasswordFile(file)) as here:
        for key in (b"old", b"new", b"old"):
            admin = {"Authorization": "Basic " + base64.b64encode(b"admin:" + key).decode()}
            async with here.station("CP001", headers=admin) as station:
                assert (await station.call("Heartbeat"))[0] == 3
            assert await refusal(here, "/CP002", headers=admin) == 401
        assert await refusal(here, "/CP001", password=b"old") == 401, "by its id"


async def test_a_password_that_cannot_be_checked_is_an_answer_and_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(SharedPassword):
        def check(self, station_id: str, password: bytes, user: str | None = None) -> bytes | None:
            raise ValueError("no such parameters")

    async with running(Broken(b"x")) as here:
        assert await refusal(here, "/CP001", password=b"x") == 500
        assert here.gateway.counts.causes == {"the password could not be checked": 1}
    assert "no such parameters" in told(caplog, "password not checked")[0]["error"]


async def test_a_station_whose_password_is_checked_as_draining_begins_is_sent_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.gateway.websocket.station_socket.CLOSE_TIMEOUT", SOON)
    checking, goes_on = threading.Event(), threading.Event()

    class Slow(SharedPassword):
        def check(self, station_id: str, password: bytes, user: str | None = None) -> bytes | None:
            checking.set()
            goes_on.wait(PATIENCE)
            return super().check(station_id, password, user)

    async with running(Slow(b"x")) as here, peer(here.port) as client:
        opening = OPENING.format(station="CP001").replace(
            "\r\n\r\n", "\r\nAuthorization: Basic Q1AwMDE6eA==\r\n\r\n"
        )
        client.writer.write(opening.encode())
        await until(checking.is_set)
        here.gateway.stop()
        await until(lambda: not here.gateway.accepts)
        goes_on.set()
        received = await client.until_closed()
        assert received.startswith(b"HTTP/1.1 101 ")
        assert (1001).to_bytes(2) + b"restart" in received
        assert here.gateway.counts.connected == 0


# ---- web pages ----


async def test_a_web_page_may_not_connect_as_a_station() -> None:
    async with running() as here:
        page = {"Origin": "https://evil.example"}
        assert await refusal(here, "/CP001", headers=page) == 403
        assert here.gateway.counts.causes == {"its origin is not allowed": 1}
        own = {"Origin": f"http://127.0.0.1:{here.port}"}
        async with here.station(headers=own) as station:  # as some libraries send it
            assert (await station.call("Heartbeat"))[0] == 3
    async with (
        running(allowed_origins=["https://evil.example"]) as here,
        here.station(headers=page) as station,
    ):
        assert (await station.call("Heartbeat"))[0] == 3


# ---- bytes in hand ----

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol"


def deflated(text: str) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    data = packer.compress(text.encode()) + packer.flush(zlib.Z_SYNC_FLUSH)
    frame = bytearray(websocket_frame(TEXT, data[:-4]))
    frame[0] |= 0x40  # RSV1: compressed
    return bytes(frame)


async def test_few_compressed_bytes_do_not_keep_many_in_hand() -> None:
    data = "x" * 900_000
    async with running() as here, peer(here.port) as client:
        here.link.goes_on.clear()
        opening = OPENING.replace("Sec-WebSocket-Protocol", DEFLATE)
        client.writer.write(opening.format(station="CP001").encode())
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        for number in range(4):
            call = [2, str(number), "DataTransfer", {"vendorId": "v", "data": data}]
            client.writer.write(deflated(json.dumps(call)))
        await until(lambda: here.gateway.counts.causes.get("too many bytes are in hand", 0) == 3)
        here.link.goes_on.set()


async def test_few_compressed_bytes_do_not_hold_up_the_others() -> None:
    """One packet of 8 kB may hold eight messages of a megabyte."""
    text = json.dumps([2, "1", "Unknown", {"data": "x" * 900_000}])
    async with running() as here, here.station() as other, peer(here.port) as client:
        opening = OPENING.replace("Sec-WebSocket-Protocol", DEFLATE)
        client.writer.write(opening.format(station="CP002").encode())
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        client.writer.write(deflated(text) * 50)
        await until(lambda: here.gateway.counts.answered > 0)
        assert (await other.call("Heartbeat"))[0] == 3
        await until(lambda: here.gateway.counts.answered == 51)


async def test_a_message_of_endless_empty_fragments_is_ended() -> None:
    async with running() as here, peer(here.port) as client:
        await client.open_websocket()
        client.writer.write(websocket_frame(TEXT, b"", fin=False))
        written = await client.until_cut_off(websocket_frame(0, b"", fin=False) * 1000)
        assert written < 10_000_000


async def test_a_user_other_than_the_station_is_refused_without_a_check(file: Path) -> None:
    header = "Basic " + base64.b64encode(b"CP002:right").decode()
    async with running(PasswordFile(file)) as here:
        assert await refusal(here, "/CP001", headers={"Authorization": header}) == 401
        async with raw_station(f"{here.url}/CP001", password=b"right") as station:
            assert (await station.call("Heartbeat"))[0] == 3
