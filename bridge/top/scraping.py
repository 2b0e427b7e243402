"""Gets ``/metrics`` of each worker, bounded in time and size.

A worker that does not answer holds up nobody: it is asked again when its last answer has come or
its time is over, and meanwhile it counts as silent.
"""

import asyncio
import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self

import msgspec
from yarl import URL

from bridge.top.samples import Reading, read_exposition

PORT: Final = 9_100
"""Where a URL names none."""
PATH: Final = "/metrics"
TIMEOUT: Final = 2.0
"""Seconds for one answer, from the connection to the last byte."""
LARGEST: Final = 32 * 1024 * 1024
"""Bytes of an answer at most."""
AT_A_TIME: Final = 32
"""Workers that are asked at a time."""
ADDRESSES: Final = 500
"""Addresses of all names together, at most."""
RESOLVE_EVERY: Final = 10.0
"""Seconds after which a name is looked up again: workers come and go behind it."""


class Answer(msgspec.Struct, frozen=True):
    """What one address said."""

    readings: dict[str, Reading] = {}
    """By process; "" if it speaks for one alone."""
    error: str = ""
    """Why there is nothing, in words."""


class Address(msgspec.Struct, frozen=True):
    """One of the addresses of a worker's URL."""

    url: str
    ip: str
    port: int
    only: bool
    """Whether the URL's host has no other address."""

    @property
    def name(self) -> str:
        """For people: the host as it was given, if there is one worker behind it alone."""
        host = URL(self.url).host or "" if self.only else self.ip
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def parse_workers(texts: Sequence[str]) -> list[URL]:
    """URLs of workers: ``http://HOST:PORT``, or ``HOST:PORT`` or ``:PORT`` (this machine) alone.

    Raises ValueError, with a sentence, for what is none.
    """
    urls = []
    for text in texts:
        full = text if "://" in text else f"http://{'localhost' * text.startswith(':')}{text}"
        try:
            url = URL(full)
            valid = bool(url.scheme in {"http", "https"} and url.host and url.port)
        except ValueError:
            valid = False
        if not valid or "@" in text:
            shown = "what was given" if "@" in text else repr(text[:200])
            raise ValueError(
                f"{shown} is not where a worker serves its metrics, for example :9100 or"
                " http://worker-1:9100"
            )
        if url.explicit_port is None and url.scheme == "http":
            url = url.with_port(PORT)
        urls.append(url.with_path(PATH) if url.path in {"", "/"} else url)
    return urls


class Scraper:
    """Asks all workers, again and again. A context manager."""

    def __init__(self, urls: Sequence[URL], timeout: float = TIMEOUT) -> None:
        """`timeout`: seconds for one answer."""
        self._urls = urls
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="top")
        self._asked: dict[Address, asyncio.Future[Answer]] = {}
        self._addresses: list[Address] = []
        self._unknown: dict[str, str] = {}
        """Hosts that have no address, and why."""
        self._resolved_at: float | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def scrape(self) -> dict[str, Answer]:
        """What each says, by its name. Takes no longer than the timeout, and a little."""
        await self._resolve()
        loop = asyncio.get_running_loop()
        for address in self._addresses:
            if address not in self._asked:
                self._asked[address] = loop.run_in_executor(
                    self._threads, ask, address, self._timeout
                )
        asked = {address: self._asked[address] for address in self._addresses}
        if asked:
            await asyncio.wait(asked.values(), timeout=self._timeout * 1.25)
        answers = {host: Answer(error=why) for host, why in self._unknown.items()}
        for address, future in asked.items():
            if future.done():
                del self._asked[address]
                answers[address.name] = future.result()
            else:
                answers[address.name] = Answer(error="it does not answer")
        return answers

    async def _resolve(self) -> None:
        now = time.monotonic()
        is_fresh = self._resolved_at is not None and now - self._resolved_at < RESOLVE_EVERY
        if is_fresh or not self._urls:
            return
        self._resolved_at = now
        loop = asyncio.get_running_loop()
        looked_up = [loop.run_in_executor(self._threads, _addresses_of, url) for url in self._urls]
        await asyncio.wait(looked_up, timeout=self._timeout)
        found: dict[Address, None] = {}
        self._unknown = {}
        for url, future in zip(self._urls, looked_up, strict=True):
            told = future.result() if future.done() else "its name is not found in time"
            if isinstance(told, str):
                kept = [address for address in self._addresses if address.url == str(url)]
                found |= dict.fromkeys(kept)
                if not kept:
                    self._unknown[f"{url.host}:{url.port}"] = told
            else:
                found |= dict.fromkeys(told)
        self._addresses = list(found)[:ADDRESSES]


def _addresses_of(url: URL) -> list[Address] | str:
    """Where a URL leads; or why it leads nowhere. In a thread."""
    host, port = str(url.host), int(url.port or 0)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error.strerror or "there is no such host"
    ips = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if host == "localhost" and "127.0.0.1" in ips:
        ips = ["127.0.0.1"]  # one machine, and not two workers
    return [Address(str(url), ip, port, len(ips) == 1) for ip in ips]


def ask(address: Address, timeout: float) -> Answer:
    """What an address says. Blocks, never for much longer than `timeout`; never raises."""
    try:
        text = _get(address, timeout)
        readings = read_exposition(text, time.monotonic())
    except TimeoutError:
        return Answer(error="it does not answer")
    except http.client.HTTPException as error:
        return Answer(error=str(error) or type(error).__name__)
    except OSError as error:
        return Answer(error=error.strerror or type(error).__name__)
    except Exception as error:  # noqa: BLE001 - the parser raises what it likes
        return Answer(error=f"this is not what a worker says: {type(error).__name__}")
    if not readings:
        return Answer(error="it has no metrics of the bridge")
    return Answer(readings)


def _get(address: Address, timeout: float) -> str:
    url = URL(address.url)
    host = str(url.host)
    give_up_at = time.monotonic() + timeout
    with contextlib.ExitStack() as opened:
        sock = opened.enter_context(socket.create_connection((address.ip, address.port), timeout))
        if url.scheme == "https":
            context = ssl.create_default_context()
            sock = opened.enter_context(context.wrap_socket(sock, server_hostname=host))
        connection = http.client.HTTPConnection(host, address.port)
        connection.sock = sock  # http.client forgets it once an answer has begun
        connection.request("GET", url.raw_path_qs, headers={"Connection": "close"})
        response = opened.enter_context(connection.getresponse())
        if response.status != 200:
            raise http.client.HTTPException(f"it answers {response.status}")
        parts: list[bytes] = []
        size = 0
        while True:
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
            part = response.read1(65_536)
            if not part:
                return b"".join(parts).decode("utf-8", "replace")
            size += len(part)
            if size > LARGEST:
                raise http.client.HTTPException(f"more than {LARGEST >> 20} MiB")
            parts.append(part)
