"""When a certificate ceases to be valid, read from its own bytes."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

LARGEST_FILE: Final = 4 * 1024 * 1024
"""Bytes that are read of a file of certificates."""

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18


def certificates_in(path: Path) -> list[bytes]:
    """The certificates of a PEM file, in DER.

    Raises OSError if it cannot be read, and ValueError if one of them is broken.
    """
    with path.open("rb") as file:
        text = file.read(LARGEST_FILE).decode("ascii", "replace")
    return [_der(block) for block in text.split(ssl.PEM_HEADER)[1:]]


def _der(block: str) -> bytes:
    """Of what follows a header of PEM."""
    body = block.partition(ssl.PEM_FOOTER)[0]
    return ssl.PEM_cert_to_DER_cert(f"{ssl.PEM_HEADER}{body}{ssl.PEM_FOOTER}")


def expires_at(chain: Path) -> float | None:
    """When a chain in a PEM file ceases to be valid, in seconds of Unix time.

    That is when the first of its certificates does so. None: it cannot be read.
    """
    try:
        return min(validity(each)[1].timestamp() for each in certificates_in(chain))
    except (OSError, ValueError):
        return None


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
