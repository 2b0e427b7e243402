"""A small HTTP listener in threads of its own, so that it answers while the event loop is blocked.

It is for probes and scrapers, not for the world: GET and HEAD, one request a connection, and every
connection is bounded in time and size, and their number too. The server is the standard library's.
"""

import contextlib
import http
import io
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from bridge.telemetry.causes import Causes
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.http")

CONNECTIONS: Final = 64
"""Connections at a time. One more takes the place of the oldest: whoever opens connections and says
nothing keeps no probe out."""
REQUEST_WITHIN: Final = 5.0
"""Seconds in which a request must have come."""
ANSWER_WITHIN: Final = 30.0
"""Seconds from the beginning of a connection in which it must be over."""
LOOK: Final = 0.25
"""Seconds between two looks for connections whose time is over."""
HEAD: Final = 8 * 1024
"""Bytes of a request at most: its line and headers."""


class Answer(msgspec.Struct, frozen=True):
    """What is sent for a page."""

    body: bytes
    content_type: str
    status: http.HTTPStatus = http.HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()


Page = Callable[[str, Message], Answer]
"""Makes the answer from the query (what stands after ``?``) and the headers. It is called in the
thread of a connection."""


def text(sentence: str, status: http.HTTPStatus = http.HTTPStatus.OK) -> Answer:
    """An answer for people."""
    return Answer(f"{sentence}\n".encode(), "text/plain; charset=utf-8", status)


class ListenError(Exception):
    """The listener cannot have its address. The message is one sentence."""


class Listener:
    """Has an address from the beginning; answers between :meth:`start` and :meth:`close`."""

    def __init__(self, server: "_Server", address: str, *, is_private: bool = False) -> None:
        """Made by :meth:`on_port` and :meth:`on_path`."""
        self._server = server
        self.address = address
        """``HOST:PORT`` with the port that it has, or the path of a Unix socket."""
        self.is_private = is_private
        """Whether it is a Unix socket."""

    @classmethod
    def on_port(cls, host: str | None, port: int) -> "Listener":
        """On a TCP port. `host`: None: every interface. `port`: 0: one that is free.

        Raises ListenError.
        """
        shown = f"{host if host is None or ':' not in host else f'[{host}]'}:{port}"
        shown = shown.removeprefix("None")
        try:
            return cls._on_port(host, port)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise ListenError(f"cannot listen on {shown}: {reason or error}") from error

    @classmethod
    def _on_port(cls, host: str | None, port: int) -> "Listener":
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
        both = host is None and socket.has_dualstack_ipv6()
        # Of every interface: IPv6 first, whose socket takes IPv4 too where the system can.
        found.sort(key=lambda each: (each[0] is not socket.AF_INET6) if both else 0)
        problem: OSError = OSError("it has no address")
        for family, _, _, _, address in found:
            try:
                server = _Server(family, address, dual=both and family is socket.AF_INET6)
            except OSError as error:
                problem = error
                continue
            name, number = server.socket.getsockname()[:2]
            return cls(server, f"[{name}]:{number}" if ":" in name else f"{name}:{number}")
        raise problem

    @classmethod
    def on_path(cls, path: Path) -> "Listener":
        """On a Unix socket. Whoever may enter its folder can ask. Raises ListenError."""
        try:
            path.unlink(missing_ok=True)  # of a process that was killed
            server = _Server(socket.AF_UNIX, str(path), dual=False)
        except OSError as error:
            raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from error
        return cls(server, str(path), is_private=True)

    def start(self, pages: Mapping[str, Page]) -> None:
        """Answer from now on. `pages`: by their path, such as ``/livez``."""
        self._server.pages = dict(pages)
        self._server.thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK,), name="http", daemon=True
        )
        self._server.thread.start()

    def close(self) -> None:
        """Answer no more, and give the address back. Never waits for a connection."""
        if self._server.thread is not None:
            self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One thread accepts, and one serves each connection."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = CONNECTIONS

    def __init__(self, family: int, address: Any, *, dual: bool) -> None:
        self.address_family = family
        self._dual = dual
        self.pages: Mapping[str, Page] = {}
        self.thread: threading.Thread | None = None
        self.failures = Causes()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        """When each connection began, the oldest first."""
        super().__init__(address, _Connection)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not self._dual)
        super().server_bind()

    def get_request(self) -> Any:
        try:
            return super().get_request()
        except OSError:
            time.sleep(LOOK)  # out of file descriptors: it would be asked again at once, and again
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = time.monotonic()
            crowded = len(self._open) - CONNECTIONS
            oldest = list(self._open)[: max(0, crowded)]
        for each in oldest:
            _end(each)
        if crowded > CONNECTIONS:  # their threads have not noticed yet: there are enough of them
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called after each connection, and each :data:`LOOK` seconds."""
        began_before = time.monotonic() - ANSWER_WITHIN
        with self._lock:
            late = [each for each, began in self._open.items() if began < began_before]
        for each in late:
            _end(each)

    def end_connections(self) -> None:
        with self._lock:
            left = list(self._open)
        for each in left:
            _end(each)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone, or asked what nobody understands: that is nobody's business."""
        log.debug("connection failed", error=repr(sys.exception()))


def _end(connection: socket.socket) -> None:
    """Have the thread of a connection notice that it is over."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _TooLongError(Exception):
    """A request has more bytes than it may."""


class _Head:
    """The bytes of a request, as its handler reads them: so many at most, and in time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until = time.monotonic() + REQUEST_WITHIN
        self._left = HEAD
        self._lines = io.BytesIO()

    def readline(self, size: int = -1, /) -> bytes:
        line = self._lines.readline()
        while not line.endswith(b"\n"):
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if self._left <= 0:
                raise _TooLongError
            self._connection.settimeout(left)
            more = self._connection.recv(min(self._left, HEAD))
            if not more:
                return line
            self._left -= len(more)
            self._lines = io.BytesIO(line + more)
            line = self._lines.readline()
        return line

    def close(self) -> None: ...


class _Connection(BaseHTTPRequestHandler):
    """One connection, and its one request."""

    server: _Server
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"
    timeout = REQUEST_WITHIN  # to write what nobody reads

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = _Head(self.connection)  # type: ignore[assignment]  # all that is read of it

    def handle(self) -> None:
        self.close_connection = True
        try:
            self.handle_one_request()
        except _TooLongError:
            self.requestline, self.request_version, self.command = "", "HTTP/1.1", "GET"
            self.send_error(http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self) -> Answer:
        try:
            parts = urlsplit(self.path)
        except ValueError:
            return text("That is no path.", http.HTTPStatus.BAD_REQUEST)
        page = self.server.pages.get(parts.path)
        if page is None:
            return text(
                f"There are {', '.join(self.server.pages)}.",
                http.HTTPStatus.OK if parts.path == "/" else http.HTTPStatus.NOT_FOUND,
            )
        try:
            return page(parts.query, self.headers)
        except Exception as error:
            cause = f"{parts.path}: {type(error).__name__}"
            if self.server.failures.is_new(cause):
                log.exception("page failed", page=parts.path)
            return text(f"failed: {type(error).__name__}", http.HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send(self, answer: Answer) -> None:
        self.connection.settimeout(self.timeout)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_response(self, code: int, message: str | None = None) -> None:
        """Without the header Server, which names versions."""
        self.send_response_only(code, message)
        self.send_header("Date", self.date_time_string())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Called by the base class too, whose page would repeat what was sent."""
        status = http.HTTPStatus(code)
        headers: tuple[tuple[str, str], ...] = ()
        if status is http.HTTPStatus.NOT_IMPLEMENTED:
            status = http.HTTPStatus.METHOD_NOT_ALLOWED
            headers = (("Allow", "GET, HEAD"),)
        answer = text(status.phrase, status)
        self._send(Answer(answer.body, answer.content_type, status, headers))

    def log_message(self, *_: Any, **__: Any) -> None:
        """A probe each second is no news."""
