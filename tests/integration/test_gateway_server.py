"""The WebSocket server on real sockets, with a stand-in for the bridge: entry, limits, closing."""

import asyncio
import contextlib
import json
import ssl
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from bridge.gateway.websocket.conversation import CALLS_AT_ONCE
from bridge.gateway.websocket.passwords import PasswordFile, PasswordHash, SharedPassword
from bridge.gateway.websocket.rivals import FREE
from bridge.gateway.websocket.server import Gateway
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.ocpp import OcppVersion
from tests.integration.gateway_server import StandIn, refusal, running
from tests.integration.raw_station import (
    CLOSE,
    OPENING,
    PATIENCE,
    PING,
    TEXT,
    make_certificate,
    peer,
    raw_station,
    websocket_frame,
)

SOON = 0.2
"""Seconds that a test waits where time has to pass."""


# ---- the handshake ----


@pytest.mark.parametrize("version", OcppVersion)
async def test_a_station_comes_up_and_is_answered(version: OcppVersion) -> None:
    async with running() as here, here.station(versions=[version]) as station:
        assert station.connection.subprotocol == version.value
        assert (await station.call("Heartbeat"))[0] == 3
        frame = await station.call("DataTransfer", {"vendorId": "v", "data": "x"})
        assert frame[2]["data"] == {"station": "CP001", "version": version, "data": "x"}


async def test_the_gateway_picks_the_newest_version_that_is_offered() -> None:
    async with (
        running() as here,
        here.station(versions=["ocpp1.5", "ocpp1.6", "ocpp2.1", "ocpp2.0.1"]) as station,
    ):
        assert station.connection.subprotocol == "ocpp2.1"


@pytest.mark.parametrize("offered", [("ocpp1.5",), ()])
async def test_without_a_version_in_common_the_handshake_is_completed_and_the_connection_closed(
    offered: tuple[str, ...],
) -> None:
    async with running() as here, here.station(versions=offered) as station:
        assert station.connection.subprotocol is None
        assert await station.closed() == (1002, "no OCPP version in common")
        assert here.gateway.counts.refused == 1


async def test_the_versions_that_are_spoken_can_be_fewer() -> None:
    async with (
        running(versions=(OcppVersion.V1_6,)) as here,
        here.station(versions=["ocpp2.1", "ocpp1.6"]) as station,
    ):
        assert station.connection.subprotocol == "ocpp1.6"


async def test_a_path_without_a_station_is_not_found() -> None:
    async with running(path="/ocpp") as here:
        for path in ("/", "/CP001", "/ocpp", "/ocpp/", "/ocpp/a/b"):
            assert await refusal(here, path) == 404
        for path in ("/ocpp/%ff", "/ocpp/CP%2", "/ocpp/CP%zz"):
            assert await refusal(here, path) == 400
        assert here.gateway.counts.refused == 8
        async with raw_station(here.url + "/ocpp/RDAM%20123") as station:
            frame = await station.call("DataTransfer", {"vendorId": "v"})
            assert frame[2]["data"]["station"] == "RDAM 123"


@pytest.mark.parametrize(
    "target",
    ["ws://a:9000/ocpp/CP001", "//ocpp/CP001", "/ocpp//CP001", "/ocpp/CP001/", "/ocpp/CP001"],
)
async def test_targets_that_stations_make_of_an_endpoint_are_served(target: str) -> None:
    async with running(path="/ocpp") as here, peer(here.port) as client:
        opening = OPENING.format(station="X").replace("GET /X ", f"GET {target} ")
        client.writer.write(opening.encode())
        async with asyncio.timeout(PATIENCE):
            assert (await client.reader.readline()).startswith(b"HTTP/1.1 101 ")
        await here.link.until(lambda: list(here.link.handlers) == ["CP001"])


@pytest.mark.parametrize(
    ("pattern", "path", "station"),
    [("/*/{id}", "acme/CP001", "CP001"), ("/ocpp/{id}/{id}", "ocpp/acme/CP001", "acme/CP001")],
)
async def test_a_pattern_says_which_segments_are_the_station(
    pattern: str, path: str, station: str
) -> None:
    async with running(path=pattern) as here, here.station(path) as connected:
        frame = await connected.call("DataTransfer", {"vendorId": "v"})
        assert frame[2]["data"]["station"] == station


@pytest.mark.parametrize("path", ["", "/ocpp", "/*/{id}"])
async def test_a_health_probe_is_answered_and_counts_for_nothing(path: str) -> None:
    async with running(path=path) as here:
        async with peer(here.port) as client:
            client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.until_closed()).startswith(b"HTTP/1.1 200 ")
        assert await refusal(here, "/") == 404, "a WebSocket without a station is none"
        assert here.gateway.counts.refused == 1


async def test_a_station_that_offers_no_version_can_have_one_by_default() -> None:
    async with running(default_version=OcppVersion.V1_6) as here:
        async with here.station(versions=()) as station:
            assert station.connection.subprotocol is None
            frame = await station.call("DataTransfer", {"vendorId": "v"})
            assert frame[2]["data"]["version"] == "ocpp1.6"
        async with here.station(versions=["ocpp1.5"]) as station:
            assert (await station.closed())[0] == 1002
        async with here.station(versions=["ocpp2.0.1"]) as station:
            assert station.connection.subprotocol == "ocpp2.0.1"


async def test_a_station_needs_its_password(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    key = bytes.fromhex("0001020304050607FFFFFFCCCCCCCCCCCCCCCCCC")
    file.write_text(f"CP001:{PasswordHash.of(key)}\nCP002:{PasswordHash.of(b'two')}\n")
    async with running(PasswordFile(file)) as here:
        assert await refusal(here, "/CP001") == 401
        assert await refusal(here, "/CP001", password=b"two") == 401
        assert await refusal(here, "/CP003", password=b"two") == 401
        for name, password in (("CP001", key), ("CP002", b"two")):
            async with here.station(name, password=password) as station:
                assert (await station.call("Heartbeat"))[0] == 3
        with pytest.raises(InvalidStatus) as caught:
            async with here.station():
                pass
        assert caught.value.response.headers["WWW-Authenticate"] == 'Basic realm="ocpp"'
        assert here.gateway.counts.refused == 4


async def test_one_password_for_all() -> None:
    async with running(SharedPassword(b"lab")) as here:
        assert await refusal(here, "/CP001", password=b"bal") == 401
        async with here.station("anybody", password=b"lab") as station:
            assert (await station.call("Heartbeat"))[0] == 3


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    make_certificate(cert, key)
    return cert, key


async def test_tls(certificate: tuple[Path, Path]) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    client = ssl.create_default_context(cafile=str(certificate[0]))
    async with running(SharedPassword(b"lab"), tls=server) as here:
        async with here.station(ssl=client, password=b"lab") as station:
            assert (await station.call("DataTransfer", {"vendorId": "v"}))[0] == 3
        async with peer(here.port) as garbage:  # without TLS
            garbage.writer.write(OPENING.format(station="CP001").encode())
            await garbage.until_closed()
    async with running(tls=server, handshake_timeout=SOON) as here, peer(here.port) as silent:
        assert await silent.until_closed() == b""


async def test_what_is_no_websocket_gets_an_http_answer_or_none() -> None:
    requests = [
        b"GET /CP001 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /CP001 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /CP001 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        OPENING.replace("Version: 13", "Version: 99").format(station="CP001").encode(),
    ]
    async with running() as here:
        for request in requests:
            async with peer(here.port) as client:
                client.writer.write(request)
                answer = await client.until_closed()
                assert not answer or answer.startswith(b"HTTP/1.1 4")
        assert here.gateway.counts.connected == 0


# ---- what is bounded ----


async def test_a_message_above_the_limit_ends_its_connection() -> None:
    large = json.dumps([2, "1", "DataTransfer", {"vendorId": "v", "data": "x" * 10_000_000}])
    async with running() as here, here.station("good") as good:
        async with here.station(compression=None) as station:
            with contextlib.suppress(Exception):  # it may be closed before everything is written
                await station.say(large)
            assert (await station.closed())[0] == 1009
        async with here.station(compression="deflate") as station:
            await station.say(large)  # 10 kB on the wire
            assert (await station.closed())[0] == 1009
        async with peer(here.port) as client:
            await client.open_websocket()
            client.writer.write(websocket_frame(TEXT, b"", length=2**62))
            assert (1009).to_bytes(2) in await client.until_closed()
        async with peer(here.port) as client:
            await client.open_websocket()
            client.writer.write(websocket_frame(TEXT, b"x" * 600_000, fin=False))
            client.writer.write(websocket_frame(0, b"x" * 600_000))
            assert (1009).to_bytes(2) in await client.until_closed()
        assert (await good.call("Heartbeat"))[0] == 3


async def test_a_message_at_the_limit_is_taken_and_an_answer_above_it_is_none() -> None:
    message = json.dumps([2, "1", "DataTransfer", {"vendorId": "v", "data": ""}])
    async with running(max_message=100_000) as here, here.station() as station:
        await station.say(message.replace('""', '"' + "x" * (50_000 - len(message)) + '"'))
        assert len((await station.hear())[2]["data"]["data"]) == 50_000 - len(message)
        await station.say(message.replace('""', '"' + "x" * (100_000 - len(message)) + '"'))
        # The stand-in's answer is a little longer than the request.
        assert (await station.hear())[:3] == [4, "1", "InternalError"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        pytest.param(websocket_frame(TEXT, b"\xff\xfe"), 1007, id="not UTF-8"),
        pytest.param(websocket_frame(3, b""), 1002, id="a reserved opcode"),
        pytest.param(websocket_frame(0, b""), 1002, id="a continuation of nothing"),
        pytest.param(websocket_frame(PING, b"x" * 126), 1002, id="a long control frame"),
        pytest.param(websocket_frame(CLOSE, b"\x00"), 1002, id="half a close code"),
        pytest.param(b"\x81\x02hi", 1002, id="not masked"),
        pytest.param(b"\xf1\x80\x00\x00\x00\x00", 1002, id="reserved bits"),
    ],
)
async def test_bytes_that_break_the_websocket_protocol_end_their_connection(
    frame: bytes, code: int
) -> None:
    async with running() as here, here.station("good") as good, peer(here.port) as client:
        await client.open_websocket()
        client.writer.write(frame)
        assert code.to_bytes(2) in await client.until_closed()
        assert (await good.call("Heartbeat"))[0] == 3


async def test_a_binary_message_is_answered() -> None:
    async with running() as here, here.station() as station:
        await station.say(b'[2,"1","Heartbeat",{}]')
        assert (await station.hear())[0] == 3
        await station.say(b"\x00\xff garbage")
        assert (await station.hear())[:3] == [4, "-1", "RpcFrameworkError"]


@pytest.mark.parametrize("begun", [b"", b"GET /CP001 HTTP/1.1\r\nHost: a\r\n"])
async def test_a_handshake_that_does_not_end_is_cut_off(begun: bytes) -> None:
    async with running(handshake_timeout=SOON) as here, peer(here.port) as client:
        client.writer.write(begun)
        assert await client.until_closed() == b""


async def test_a_handshake_that_drips_is_cut_off_too() -> None:
    async with running(handshake_timeout=SOON) as here, peer(here.port) as client:

        async def drip() -> None:
            client.writer.write(b"GET /CP001 HTTP/1.1\r\n")
            with contextlib.suppress(ConnectionError):
                while True:
                    client.writer.write(b"X-Slow: loris\r\n")
                    await client.writer.drain()
                    await asyncio.sleep(SOON / 10)

        dripping = asyncio.create_task(drip())
        assert await client.until_closed() == b""
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_headers_without_end_are_cut_off() -> None:
    async with running() as here, peer(here.port) as client:
        client.writer.write(b"GET /CP001 HTTP/1.1\r\n" + b"X-Header: x\r\n" * 1000)
        await client.until_closed()


async def test_a_peer_that_does_not_await_the_handshake_is_cut_off(tmp_path: Path) -> None:
    """It could fill the memory while its password is checked."""
    file = tmp_path / "passwords"
    file.write_text("")
    async with running(PasswordFile(file)) as here, peer(here.port) as client:
        opening = OPENING.format(station="CP001").replace(
            "\r\n\r\n", "\r\nAuthorization: Basic Q1AwMDE6eA==\r\n\r\n"
        )
        client.writer.write(opening.encode())
        assert await client.until_cut_off(b"x" * 65536) < 50_000_000
        await here.link.until(lambda: here.gateway.counts.refused + here.gateway.counts.cut_off > 0)


async def test_one_connection_more_than_may_be_is_closed() -> None:
    async with running(max_connections=2) as here:
        # A connection without a station takes a place as well.
        async with here.station("A") as first, peer(here.port):
            async with peer(here.port) as third:
                assert await third.until_closed() == b""
            assert (await first.call("Heartbeat"))[0] == 3
        async with here.station("A"), here.station("B") as second:
            assert (await second.call("Heartbeat"))[0] == 3
        assert here.gateway.counts.cut_off == 1


async def test_a_station_that_asks_and_never_reads_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.gateway.websocket.station_socket.READ_TIMEOUT", SOON)
    heartbeat = websocket_frame(TEXT, b'[2,"1","Heartbeat",{}]') * 1000
    async with running() as here, here.station("good") as good, peer(here.port) as client:
        await client.open_websocket()
        await client.until_cut_off(heartbeat)
        assert here.gateway.counts.cut_off == 1
        assert (await good.call("Heartbeat"))[0] == 3


async def test_a_station_that_pings_and_never_reads_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pong is written without asking whether there is room, and yet the buffer is bounded."""
    monkeypatch.setattr("bridge.gateway.websocket.station_socket.READ_TIMEOUT", SOON)
    async with (
        running(max_message=65536) as here,
        here.station("good") as good,
        peer(here.port) as client,
    ):
        await client.open_websocket()
        await client.until_cut_off(websocket_frame(PING, b"x" * 125) * 500)
        assert here.gateway.counts.cut_off == 1
        assert (await good.call("Heartbeat"))[0] == 3


async def test_a_peer_that_falls_silent_is_dropped() -> None:
    async with running(ping_interval=SOON, ping_timeout=SOON) as here, here.station("good") as good:
        async with peer(here.port) as client:
            await client.open_websocket()
            await client.until_closed()
        await here.link.until(lambda: set(here.link.handlers) == {"good"})
        assert (await good.call("Heartbeat"))[0] == 3


async def test_a_station_that_talks_but_sends_no_pongs_is_kept() -> None:
    """The timeout is long enough for a slow machine, and the test twice as long as both."""
    async with (
        running(ping_interval=SOON, ping_timeout=1.0) as here,
        peer(here.port) as client,
    ):
        await client.open_websocket()
        until = asyncio.get_running_loop().time() + 2 * (SOON + 1.0)
        async with asyncio.timeout(PATIENCE):
            while asyncio.get_running_loop().time() < until:
                assert await client.reader.read(65536), "a ping, or the answer"
                client.writer.write(websocket_frame(TEXT, b'[2,"1","Heartbeat",{}]'))
        assert here.gateway.counts.connected == 1
        await here.link.until(lambda: set(here.link.handlers) == {"hostile"})
        await client.until_closed()  # it has fallen silent


async def test_a_peer_that_stays_after_it_was_told_to_go_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.gateway.websocket.station_socket.CLOSE_TIMEOUT", SOON)
    async with running(ping_interval=SOON) as here, peer(here.port) as client:
        await client.open_websocket()
        await here.link.until(lambda: "hostile" in here.link.handlers)
        client.writer.write(websocket_frame(3, b""))
        await here.link.until(lambda: here.link.handlers == {})


async def test_a_flood_of_calls_is_refused() -> None:
    async with running() as here, here.station("good") as good, here.station() as station:
        here.link.goes_on.clear()
        for number in range(CALLS_AT_ONCE + 200):
            await station.say([2, str(number), "DataTransfer", {"vendorId": "v"}])
        for number in range(CALLS_AT_ONCE, CALLS_AT_ONCE + 200):
            assert (await station.hear())[:3] == [4, str(number), "GenericError"]
        assert (await good.call("Heartbeat"))[0] == 3
        here.link.goes_on.set()
        for number in range(CALLS_AT_ONCE):
            assert (await station.hear())[:2] == [3, str(number)]


# ---- one station, several connections ----


async def test_the_newer_connection_of_a_station_wins() -> None:
    async with running() as here, here.station() as old:
        await here.link.until(lambda: "CP001" in here.link.handlers)
        first = here.link.handlers["CP001"]
        async with here.station() as new:
            assert await old.closed() == (1008, "a newer connection")
            await here.link.until(lambda: here.link.handlers["CP001"] is not first)
            asked = asyncio.create_task(
                here.link.handlers["CP001"].on_payload(b'{"vendorId":"v"}', PATIENCE)
            )
            call = await new.hear()
            await new.say([3, call[1], {"status": "Accepted"}])
            assert json.loads((await asked).body) == {"status": "Accepted"}
            assert here.gateway.counts.replaced == 1
            assert here.link.lost == [], "its key stays bound all the while"
        await here.link.until(lambda: here.link.handlers == {})
        assert here.link.lost == ["CP001"]


async def test_two_peers_with_one_id_do_not_replace_each_other_as_fast_as_they_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.gateway.websocket.rivals.FIRST_PAUSE", 3600.0)
    monkeypatch.setattr("bridge.gateway.websocket.rivals.LONGEST_PAUSE", 3600.0)
    monkeypatch.setattr("bridge.gateway.websocket.rivals.CALM", 7200.0)
    async with running() as here, contextlib.AsyncExitStack() as open_ones:
        last = await open_ones.enter_async_context(here.station())
        for _ in range(FREE):
            older, last = last, await open_ones.enter_async_context(here.station())
            assert await older.closed() == (1008, "a newer connection")
        waits = await open_ones.enter_async_context(here.station())
        await waits.say([2, "1", "Heartbeat", {}])
        for _ in range(10):
            assert (await last.call("Heartbeat"))[0] == 3
        assert here.gateway.counts.replaced == FREE
        await last.connection.close()
        assert (await waits.hear())[:2] == [3, "1"], "as soon as the station is free"
        assert here.gateway.counts.replaced == FREE


async def test_an_older_connection_that_is_dead_does_not_stand_in_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.gateway.websocket.station_socket.CLOSE_TIMEOUT", SOON)
    async with running() as here, peer(here.port) as dead:
        await dead.open_websocket("CP001")
        async with here.station() as station:
            assert (await station.call("DataTransfer", {"vendorId": "v"}))[0] == 3
        await dead.until_closed()


async def test_an_answer_never_goes_to_the_newer_connection_of_its_station() -> None:
    """Message ids are unique within one connection: the newer one may use the same."""
    async with running() as here, here.station() as old:
        here.link.goes_on.clear()
        await old.say([2, "1", "DataTransfer", {"vendorId": "v", "data": "old"}])
        await old.say([2, "h", "Heartbeat", {}])
        await old.hear()
        async with here.station() as new:
            await new.say([2, "1", "DataTransfer", {"vendorId": "v", "data": "new"}])
            await old.closed()
            here.link.goes_on.set()
            assert (await new.hear())[2]["data"]["data"] == "new"
            assert (await new.call("Heartbeat"))[0] == 3


@pytest.mark.parametrize("answered", [True, False], ids=["idle", "in hand"])
async def test_a_station_that_goes_without_a_word_is_gone_at_once(
    answered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It closes its half, as a device does whose program ends."""
    async with running(max_connections=2) as here, peer(here.port) as client:
        caplog.set_level("INFO", "bridge.gateway")
        await client.open_websocket("CP001")
        await here.link.until(lambda: "CP001" in here.link.handlers)
        if not answered:
            here.link.goes_on.clear()
        request = b'[2,"1","DataTransfer",{"vendorId":"v"}]'
        client.writer.write(websocket_frame(TEXT, request))
        if answered:
            await client.reader.readuntil(b"Accepted")
        client.writer.write_eof()
        await here.link.until(lambda: not here.link.handlers)
        assert here.gateway.stations == {}
        await client.until_closed()
        assert here.gateway.connections == 0
        assert caplog.text.count("station disconnected") == 1


async def test_a_rival_that_gives_up_does_not_take_the_station_from_the_one_that_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.gateway.websocket.rivals.FIRST_PAUSE", SOON)
    async with running() as here, contextlib.AsyncExitStack() as open_ones:
        for _ in range(FREE + 1):
            last = await open_ones.enter_async_context(here.station())
        async with peer(here.port) as rival:
            await rival.open_websocket("CP001")
            rival.writer.write_eof()
            await rival.until_closed()
        await asyncio.sleep(2 * SOON)
        assert (await last.call("Heartbeat"))[0] == 3
        assert here.gateway.counts.replaced == FREE


async def test_a_peer_that_says_nothing_does_not_hold_up_the_end() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        running(handshake_timeout=2 * PATIENCE) as here,
        peer(here.port) as silent,
        peer(here.port) as slow,
    ):
        slow.writer.write(b"GET /CP001 HTTP/1.1\r\n")
        while here.gateway.connections < 2:
            await asyncio.sleep(0.01)
        here.gateway.stop()
        await silent.until_closed()
        await slow.until_closed()


async def test_a_station_that_comes_and_goes_leaves_nothing() -> None:
    async with running() as here:
        for _ in range(20):
            async with here.station():
                pass
        await here.link.until(lambda: here.link.handlers == {})
        assert here.gateway.counts.connected == 20


# ---- the end ----


async def test_draining_finishes_what_is_outstanding_and_sends_stations_elsewhere() -> None:
    async with running() as here, here.station("busy") as busy, here.station("idle") as idle:
        here.link.goes_on.clear()
        await busy.say([2, "1", "DataTransfer", {"vendorId": "v"}])
        await busy.say([2, "h", "Heartbeat", {}])
        await busy.hear()
        here.gateway.stop()
        assert await idle.closed() == (1001, "restart")
        with pytest.raises((OSError, InvalidStatus)):
            async with here.station("late"):
                pass
        here.link.goes_on.set()
        assert (await busy.hear())[:2] == [3, "1"]
        assert await busy.closed() == (1001, "restart")


async def test_draining_has_an_end() -> None:
    async with running(drain_timeout=SOON) as here, here.station() as station:
        here.link.goes_on.clear()
        await station.say([2, "1", "DataTransfer", {"vendorId": "v"}])
        await station.say([2, "h", "Heartbeat", {}])
        await station.hear()
        here.gateway.stop()
        assert await station.closed() == (1001, "restart")


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with running() as here:
        second = Gateway(StandIn(), GatewaySettings(port=here.port))
        with pytest.raises(OSError, match="address already in use"):
            await second.run()


async def test_a_peer_that_connects_while_draining_is_told_to_go() -> None:
    async with running() as here, here.station("busy") as busy:
        here.link.goes_on.clear()
        await busy.say([2, "1", "DataTransfer", {"vendorId": "v"}])
        await busy.say([2, "h", "Heartbeat", {}])
        await busy.hear()
        async with peer(here.port) as client:  # connected, but before its handshake
            await asyncio.sleep(SOON)
            here.gateway.stop()
            await asyncio.sleep(SOON)
            client.writer.write(OPENING.format(station="CP001").encode())
            assert (await client.until_closed()).startswith(b"HTTP/1.1 503")
        here.link.goes_on.set()
        await busy.closed()
