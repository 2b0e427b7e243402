"""Asks a worker or a gateway how it is, for probes of containers, which have no curl.

A probe is a process every few seconds, so this imports as little as it can: the standard library's
HTTP client alone would take half as long as all the rest.
"""

import re
import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

TIMEOUT: Final = 3.0
"""Seconds for the answer, unless it is said. Those of a probe of Kubernetes are 1, of Docker 30."""
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of an answer at most: metrics of a thousand vendors are a hundredth of that."""
SHOWN: Final = 500
"""Characters of a reason that are shown."""
READY: Final = "/readyz"
LIVE: Final = "/livez"

_ADDRESS: Final = re.compile(
    r"(?:http://)?(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s:/@\[\]]*)):(?P<port>\d{1,5})/?"
)
_EVERYWHERE: Final = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to ask
"""Where a process that listens on every interface is asked."""


class Verdict(NamedTuple):
    """What a probe has found."""

    ok: bool
    line: str
    """For people."""


class Report(msgspec.Struct):
    """What a page of health says, as far as it is needed here."""

    ok: bool
    reason: str = ""


def parse_address(text: str) -> tuple[str, int]:
    """Where to ask: the host and port of ``HOST:PORT``, ``:PORT``, ``[IPv6]:PORT`` or a URL of it.

    Raises ValueError with a sentence for any other text.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or not int(match["port"]) < 65_536:
        raise ValueError(f"{text!r} is not HOST:PORT, for example :9100 or [::1]:9100")
    port = int(match["port"])
    if port == 0:
        raise ValueError(f"{text!r}: port 0 is any free one; the log of the process has its number")
    host = match["v6"] or match["host"] or ""
    return _EVERYWHERE.get(host, host), port


def probe(address: str, page: str, timeout: float = TIMEOUT) -> Verdict:
    """Ask for a page of health. `timeout`: seconds. Raises ValueError as :func:`parse_address`."""
    host, port = parse_address(address)
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}{page}"
    try:
        status, body = ask(lambda left: socket.create_connection((host, port), left), page, timeout)
    except TimeoutError:
        return Verdict(False, f"{where} does not answer within {timeout:g} s")
    except (OSError, ValueError) as error:
        return Verdict(False, f"{where}: {getattr(error, 'strerror', None) or error}")
    try:
        found = msgspec.json.decode(body, type=Report)
    except msgspec.DecodeError:
        return Verdict(False, f"{where} is not a page of health: it answers with status {status}")
    ok = status == 200 and found.ok
    what = "live" if page == LIVE else "ready"
    return Verdict(ok, what if ok else f"not {what}: {found.reason[:SHOWN]}")


def ask(connect: Callable[[float], socket.socket], page: str, timeout: float) -> tuple[int, bytes]:
    """GET a page of a listener of ours. Returns its status and body.

    `connect`: opens the connection within as many seconds. `timeout`: seconds for all of it. Raises
    OSError, TimeoutError, and ValueError for what is no answer.
    """
    until = time.monotonic() + timeout
    received = bytearray()
    with connect(timeout) as connection:
        connection.sendall(f"GET {page} HTTP/1.1\r\nHost: health\r\n\r\n".encode())
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            more = connection.recv(65_536)
            if not more:
                break
            received += more
            if len(received) > LARGEST:
                raise ValueError("its answer does not end")
    head, separator, body = bytes(received).partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
    if match is None or not separator:
        raise ValueError("it does not speak HTTP")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length is not None and int(length[1]) != len(body):
        raise ValueError("its answer was cut off")
    return int(match[1]), body


def printable(line: str) -> str:
    """A line without what a terminal might obey."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)
