"""TLS of the gateway command: suites, versions, and certificates of stations."""

import ssl
import subprocess
from pathlib import Path

import pytest
import typer
from websockets.exceptions import InvalidStatus, WebSocketException

from bridge.cli.gateway import TlsVersion, _tls
from tests.integration.gateway_server import running
from tests.integration.raw_station import raw_station

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
