"""TLS of the gateway command: suites, versions, and certificates of stations."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import CollectorRegistry
from websockets.exceptions import InvalidStatus, WebSocketException

from bridge.cli.gateway import _tls
from bridge.gateway.websocket import certificates
from bridge.gateway.websocket.certificates import Certificates, TlsVersion
from bridge.gateway.websocket.metrics import GatewayCollector
from tests.integration.gateway_server import Running, running
from tests.integration.raw_station import PATIENCE, raw_station

RSA_SUITE = "AES128-GCM-SHA256"
"""TLS_RSA_WITH_AES_128_GCM_SHA256, of OCPP's security profile 2."""


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a certificate of the gateway with an RSA key, and those of two stations."""
    folder = tmp_path_factory.mktemp("tls")
    ca, ca_key = str(folder / "ca.pem"), str(folder / "ca.key")
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", ca_key, "-out", ca)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("gateway", "CP001", "CP002"):
        key, csr, cert = (str(folder / f"{name}.{end}") for end in ("key", "csr", "pem"))
        openssl(*new, "-subj", f"/CN={name}", "-keyout", key, "-out", csr)
        extensions = ("-extfile", str(folder / "names")) if name == "gateway" else ()
        signed = ("x509", "-req", "-in", csr, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial")
        openssl(*signed, "-days", "2", "-out", cert, *extensions)
    return folder


def client(folder: Path, station: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if station:
        context.load_cert_chain(folder / f"{station}.pem", folder / f"{station}.key")
    return context


async def test_the_suites_of_security_profile_2_are_offered_if_they_are_asked_for(
    folder: Path,
) -> None:
    own = folder / "gateway.pem", folder / "gateway.key"
    old = client(folder)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers(RSA_SUITE)
    async with running(tls=_tls(*own)) as here:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with here.station(ssl=old):
                pass
    with pytest.raises(ValueError, match="names no cipher suite"):
        Certificates(*own, ciphers="")
    async with running(tls=_tls(*own, None, f"ECDHE+AESGCM:{RSA_SUITE}")) as here:
        async with here.station(ssl=old) as station:
            suite = station.connection.transport.get_extra_info("cipher")
            assert suite[0] == RSA_SUITE
        async with here.station(ssl=client(folder)) as station:
            assert station.connection.transport.get_extra_info("cipher")[0] != RSA_SUITE
    async with running(tls=_tls(*own, least=TlsVersion.V1_3)) as here:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with here.station(ssl=old):
                pass


async def test_a_station_is_known_by_its_certificate(folder: Path) -> None:
    tls = _tls(folder / "gateway.pem", folder / "gateway.key", folder / "ca.pem")
    async with running(tls=tls) as here:
        async with here.station("CP001", ssl=client(folder, "CP001")) as station:
            assert (await station.call("Heartbeat"))[0] == 3
        with pytest.raises(InvalidStatus) as caught:
            async with here.station("CP001", ssl=client(folder, "CP002")):
                pass
        assert caught.value.response.status_code == 403
        with pytest.raises((OSError, EOFError, WebSocketException)):
            async with raw_station(f"{here.url}/CP001", ssl=client(folder)):
                pass
        assert here.gateway.counts.connected == 1
        assert here.gateway.counts.causes == {
            "its certificate is another station's": 1,
            "TLS failed": 1,
        }


def test_suites_and_authorities_that_are_none_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = folder / "gateway.pem", folder / "gateway.key"
    for arguments, told in (
        ((None, "NO-SUCH-SUITE"), "names no cipher suite that OpenSSL has"),
        ((folder / "nowhere.pem", None), "the stations' certificate authority"),
        ((folder / "ca.key", None), "the stations' certificate authority"),
    ):
        with pytest.raises(typer.Exit):
            _tls(*own, *arguments)
        assert told in capsys.readouterr().err


# ---- renewed under a gateway ----


@pytest.fixture
def renewed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies for a gateway of its own, which looks at them at each handshake."""
    monkeypatch.setattr(certificates, "LOOK_EVERY", 0.0)
    for name in ("gateway.pem", "gateway.key", "ca.pem"):
        shutil.copy(folder / name, tmp_path / name)
    return tmp_path


def sign(folder: Path, out: Path, ca: str, name: str, *, days: int = 2) -> None:
    """A certificate and key `name` in `out`, by the authority `ca` in `folder`."""
    key, csr, cert = (str(out / f"{name}.{end}") for end in ("key", "csr", "pem"))
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", csr
    )
    signed = ("x509", "-req", "-in", csr, "-CA", str(folder / f"{ca}.pem"), "-CAkey")
    names = ("-extfile", str(folder / "names"))
    whose = (str(folder / f"{ca}.key"), "-CAcreateserial")
    openssl(*signed, *whose, "-days", str(days), "-out", cert, *names)


def serial(station: Any) -> str:
    """Of the gateway's certificate, as a station sees it."""
    return str(station.connection.transport.get_extra_info("peercert")["serialNumber"])


def days_left(here: Running) -> int:
    """As a scrape tells when the gateway's certificate expires."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(here.gateway))
    ends = registry.get_sample_value("dtbridge_gateway_certificate_expiry_time_seconds")
    return round(((ends or 0.0) - time.time()) / 86_400)


async def test_a_renewed_certificate_is_for_new_handshakes(folder: Path, renewed: Path) -> None:
    tls = _tls(renewed / "gateway.pem", renewed / "gateway.key")
    async with running(tls=tls) as here, here.station("CP001", ssl=client(folder)) as old:
        sign(folder, renewed, "ca", "gateway")
        async with here.station("CP002", ssl=client(folder)) as new:
            assert serial(new) != serial(old)
            assert (await new.call("Heartbeat"))[0] == 3
            assert (await old.call("Heartbeat"))[0] == 3  # it lives on
        assert here.gateway.counts.causes == {}


async def test_one_that_cannot_be_used_does_not_replace_the_one_before(
    folder: Path, renewed: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = _tls(renewed / "gateway.pem", renewed / "gateway.key")
    async with running(tls=tls) as here:
        (renewed / "gateway.key").write_bytes((folder / "CP001.key").read_bytes())
        async with here.station("CP001", ssl=client(folder)) as station:
            before = serial(station)
        assert "certificate not read" not in caplog.text  # the other half may be about to come
        monkeypatch.setattr(certificates, "SETTLED", 0.0)
        for _ in range(2):
            async with here.station("CP001", ssl=client(folder)) as station:
                assert serial(station) == before
        assert caplog.text.count("certificate not read") == 1
        sign(folder, renewed, "ca", "gateway")
        async with here.station("CP001", ssl=client(folder)) as station:
            assert serial(station) != before


async def test_the_end_that_is_told_is_of_the_certificate_in_use(
    folder: Path, renewed: Path
) -> None:
    own = renewed / "gateway.pem", renewed / "gateway.key"
    (renewed / "new").mkdir()
    sign(folder, renewed / "new", "ca", "gateway", days=90)
    async with running(tls=_tls(*own)) as here:
        assert days_left(here) == 2
        shutil.copy(renewed / "new" / "gateway.pem", own[0])
        async with here.station(ssl=client(folder)) as station:
            before = serial(station)
        assert days_left(here) == 2  # its key is another's: the one before stays in use
        shutil.copy(renewed / "new" / "gateway.key", own[1])
        assert days_left(here) == 2  # nothing has been read yet
        async with here.station(ssl=client(folder)) as station:
            assert serial(station) != before
        assert days_left(here) == 90


async def test_files_are_read_although_nobody_connects(
    folder: Path, renewed: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.gateway.websocket.server.CERTIFICATES_AGE", 0.02)
    monkeypatch.setattr(certificates, "SETTLED", 0.1)
    async with (
        running(tls=_tls(renewed / "gateway.pem", renewed / "gateway.key")) as here,
        asyncio.timeout(PATIENCE),
    ):
        shutil.copy(folder / "CP001.pem", renewed / "gateway.pem")
        while "certificate not read" not in caplog.text:
            await asyncio.sleep(0.01)
        sign(folder, renewed, "ca", "gateway", days=90)
        while days_left(here) != 90:
            await asyncio.sleep(0.01)
    assert caplog.text.count("certificate not read") == 1


async def test_the_stations_authorities_are_renewed_and_an_old_session_is_no_way_in(
    folder: Path, renewed: Path
) -> None:
    ca, ca_key = str(folder / "other.pem"), str(folder / "other.key")
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=other", "-keyout", ca_key, "-out", ca)
    sign(folder, renewed, "other", "CP009")
    tls = _tls(renewed / "gateway.pem", renewed / "gateway.key", renewed / "ca.pem")
    of_old = client(folder, "CP001")
    of_new = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    of_new.load_cert_chain(renewed / "CP009.pem", renewed / "CP009.key")
    async with running(tls=tls) as here, here.station("CP001", ssl=of_old) as station:
        assert (await station.call("Heartbeat"))[0] == 3
        session = await asyncio.to_thread(_resumed, here.port, of_old, None)
        assert session is not None
        shutil.copy(ca, renewed / "ca.pem")
        with pytest.raises((OSError, EOFError, WebSocketException)):
            async with raw_station(f"{here.url}/CP001", ssl=of_old):
                pass
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(_resumed, here.port, of_old, session)
        async with here.station("CP009", ssl=of_new) as other:
            assert (await other.call("Heartbeat"))[0] == 3
        assert (await station.call("Heartbeat"))[0] == 3  # it lives on


def _resumed(
    port: int, tls: ssl.SSLContext, session: ssl.SSLSession | None
) -> ssl.SSLSession | None:
    """Ask for the page of health, with a session from before; return that for next time."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as tcp,
        tls.wrap_socket(tcp, server_hostname="127.0.0.1", session=session) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        if not connection.recv(4096):
            raise ConnectionError("the gateway said nothing")
        return connection.session
