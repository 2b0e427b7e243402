"""When certificates expire: the broker's own, and those in files."""

import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from yarl import URL

from bridge.doctor.facts import Certificate, Surroundings
from bridge.doctor.findings import Check, Finding, fail, ok, unknown, warn
from bridge.telemetry.certificates import certificates_in, validity

TIMEOUT: Final = 5.0
"""Seconds to get the broker's certificate."""
SOON: Final = 30.0
"""Days before its end in which a certificate should be renewed."""
_DAY: Final = 86_400.0


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
        found = [_judge(what, der, now) for der in certificates_in(path)]
    except (OSError, ValueError) as error:
        return Certificate(what, error=str(error) or type(error).__name__)
    if not found:
        return Certificate(what, error="it holds no certificate in PEM form")
    return found[0] if name == "certfile" else max(found, key=lambda each: each.days or 0.0)


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
