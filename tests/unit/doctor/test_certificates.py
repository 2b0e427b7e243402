"""When certificates expire."""

import datetime as dt
from pathlib import Path

import pytest
from yarl import URL

from bridge.doctor.certificates import check_certificates, see_certificates
from bridge.doctor.facts import Certificate
from bridge.doctor.findings import Level
from tests.unit.doctor.surroundings import told, worst
from tests.unit.telemetry.certificate import make

NOW = dt.datetime.now(dt.UTC)


def test_of_a_clients_file_the_first_counts_and_of_authorities_the_last_to_expire(
    tmp_path: Path,
) -> None:
    short, long = make(tmp_path, "a.pem", 3), make(tmp_path, "b.pem", 300)
    both = tmp_path / "both.pem"
    both.write_text(short.read_text() + long.read_text())
    url = URL(f"amqps://127.0.0.1:1/?certfile={both}&cafile={both}")
    host, client, authority = see_certificates(url, NOW)
    assert host.days is None
    assert host.error
    assert round(client.days or 0) == 3
    assert round(authority.days or 0) == 300
    assert see_certificates(URL("amqp://127.0.0.1/"), NOW) == []


@pytest.mark.parametrize(
    ("certificate", "level", "words"),
    [
        (Certificate("c", days=-2), Level.FAIL, "c expired 2.0 days ago"),
        (Certificate("c", days=12), Level.WARN, "c expires in 12.0 days"),
        (Certificate("c", days=40, not_yet=1), Level.FAIL, "not valid yet"),
        (Certificate("c", error="no route"), Level.UNKNOWN, "cannot be read: no route"),
    ],
)
def test_findings(certificate: Certificate, level: Level, words: str) -> None:
    found = worst(check_certificates, certificates=(certificate,))
    assert found.level is level
    assert words in found.sentence


def test_a_certificate_that_nobody_checks() -> None:
    assert "somebody in between" in worst(check_certificates, verified=False).sentence
    assert told(check_certificates, certificates=(Certificate("c", days=400.0),)) == [
        (Level.OK, "the certificate of c is valid for 400 days")
    ]
