"""When certificates expire: the broker's own, and those in files."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from yarl import URL

from bridge.doctor.facts import Certificate, Surroundings
from bridge.doctor.findings import Check, Finding, fail, ok, unknown, warn

TIMEOUT: Final = 5.0
"""Seconds to get the broker's certificate."""
SOON: Final = 30.0
"""Days before its end in which a certificate should be renewed."""
LARGEST_FILE: Final = 4 * 1024 * 1024
"""Bytes that are read of a file of certificates."""
_DAY: Final = 86_400.0

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18


def validity(der: bytes) -> tuple[datetime, datetime]:
    """When a certificate begins and ceases to be valid (RFC 5280 §4.1).

    Raises ValueError if it is none.
    """
    try:
        return _validity(der)
    except (ValueError, OverflowError):
        raise ValueError("this is no certificate") from None


def _validity(der: bytes) -> tuple[datetime, datetime]:
    certificate = _inside(der, _SEQUENCE)
    fields = list(_elements(_inside(certificate, _SEQUENCE)))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    # serialNumber, signature, issuer, validity, …
    if len(fields) < 4 or fields[3][0] != _SEQUENCE:
        raise ValueError("no certificate")
    times = [_time(tag, value) for tag, value in _elements(fields[3][1])]
    if len(times) != 2:
        raise ValueError("no certificate")
    return times[0], times[1]


def _inside(data: bytes, tag: int) -> bytes:
    found, value = next(_elements(data), (None, b""))
    if found != tag:
        raise ValueError("no certificate")
    return value


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element of DER, one after the other."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("cut short")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            digits = length & 0x7F
            length = int.from_bytes(data[at : at + digits])
            at += digits
        if at + length > len(data):
            raise ValueError("cut short")
        yield tag, data[at : at + length]
        at += length


def _time(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits of a year: from 50 on, of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no certificate")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


# ---- looking ----


def see_certificates(url: URL, now: datetime) -> list[Certificate]:
    """The certificates behind one URL of a broker. Blocks; never raises."""
    if url.scheme != "amqps":
        return []
    files = [
        _of_file(name, Path(path), now)
        for name in ("certfile", "cafile")
        if (path := url.query.get(name))
    ]
    return [_of_host(url, now), *files]


def _of_host(url: URL, now: datetime) -> Certificate:
    what = f"the broker {url.host}:{url.port}"
    try:
        pem = ssl.get_server_certificate((str(url.host), int(url.port or 0)), timeout=TIMEOUT)
        return _judge(what, ssl.PEM_cert_to_DER_cert(pem), now)
    except (OSError, ValueError) as error:
        return Certificate(what, error=str(error) or type(error).__name__)


def _of_file(name: str, path: Path, now: datetime) -> Certificate:
    """The certificate of a ``certfile``, which is its first; of a ``cafile``, the last to expire.

    There may be authorities in it that nobody uses any more.
    """
    what = f"{name}={path}"
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE).decode("ascii", "replace")
        found = [_judge(what, _der(block), now) for block in text.split(ssl.PEM_HEADER)[1:]]
    except (OSError, ValueError) as error:
        return Certificate(what, error=str(error) or type(error).__name__)
    if not found:
        return Certificate(what, error="it holds no certificate in PEM form")
    return found[0] if name == "certfile" else max(found, key=lambda each: each.days or 0.0)


def _der(block: str) -> bytes:
    """Of what follows a header of PEM."""
    body = block.partition(ssl.PEM_FOOTER)[0]
    return ssl.PEM_cert_to_DER_cert(f"{ssl.PEM_HEADER}{body}{ssl.PEM_FOOTER}")


def _judge(what: str, der: bytes, now: datetime) -> Certificate:
    begins, ends = validity(der)
    return Certificate(
        what,
        days=(ends - now).total_seconds() / _DAY,
        not_yet=(begins - now).total_seconds() / _DAY,
    )


# ---- checks ----


def check_certificates(known: Surroundings) -> Iterator[Finding]:
    for certificate in known.certificates:
        yield _finding(certificate)
    if not known.verified:
        yield warn(
            "tls",
            "no_verify_ssl takes any certificate, also that of somebody in between",
            "name the authority with cafile= instead",
        )


def _finding(certificate: Certificate) -> Finding:
    what, days = certificate.what, certificate.days
    if days is None:
        return unknown("tls", f"the certificate of {what} cannot be read: {certificate.error}")
    if certificate.not_yet > 0:
        return fail(
            "tls",
            f"the certificate of {what} is not valid yet, for {certificate.not_yet:.1f} days",
            "compare the clocks of this machine and of whoever made it",
        )
    if days <= 0:
        return fail(
            "tls",
            f"the certificate of {what} expired {-days:.1f} days ago",
            "renew it; workers read a file that has changed at their next connection",
        )
    if days < SOON:
        return warn("tls", f"the certificate of {what} expires in {days:.1f} days", "renew it")
    return ok("tls", f"the certificate of {what} is valid for {days:,.0f} days")


CHECKS: Final[tuple[Check[Surroundings], ...]] = (check_certificates,)
