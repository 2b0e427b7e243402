"""When certificates expire, read from their bytes and files."""

import ssl
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.telemetry.certificates import expires_at, validity
from tests.unit.telemetry.certificate import make

DAY = 86_400


def test_a_certificate_is_read_as_openssl_reads_it(tmp_path: Path) -> None:
    path = make(tmp_path, "c.pem", 40_000)  # beyond 2050, where the form of times changes
    begins, ends = validity(ssl.PEM_cert_to_DER_cert(path.read_text()))
    shown = subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-dates"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name, when in (("notBefore", begins), ("notAfter", ends)):
        assert f"{name}={when:%b} {when.day:2d} {when:%H:%M:%S %Y} GMT" in shown


@given(st.binary(max_size=200))
def test_what_is_no_certificate_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        validity(data)


def test_a_certificate_that_is_cut_short_is_a_value_error(tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(make(tmp_path, "c.pem", 1).read_text())
    validity(der)
    for length in range(0, len(der), 7):
        with pytest.raises(ValueError, match="no certificate"):
            validity(der[:length])


def test_a_chain_expires_with_the_first_of_it(tmp_path: Path) -> None:
    long, short = make(tmp_path, "a.pem", 300), make(tmp_path, "b.pem", 3)
    chain = tmp_path / "chain.pem"
    chain.write_text(long.read_text() + short.read_text())
    expiry = expires_at(chain)
    assert expiry is not None
    assert round((expiry - time.time()) / DAY) == 3


@pytest.mark.parametrize(
    "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_of_a_file_that_cannot_be_read_nobody_knows(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.pem"
    assert expires_at(path) is None
    path.write_text(text)
    assert expires_at(path) is None
