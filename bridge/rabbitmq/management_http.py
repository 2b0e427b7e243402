"""One request to RabbitMQ's management API, and what its answers have in common.

A request has a thread and a connection, and is bounded in time and size. No redirect is followed
and no proxy is used, because each request carries the password.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from yarl import URL

from bridge.rabbitmq.tls import tls_context
from bridge.rabbitmq.urls import printable
from bridge.telemetry.lines import escaped
from bridge.transport import TransportError

TIMEOUT: Final = 10.0
"""Seconds for one request, from the connection to the last byte."""
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of an answer at most. A page of 500 queues has one or two million."""
_ERROR_LENGTH: Final = 300
"""Characters of the API's own words that are shown."""


class ManagementError(TransportError):
    """The management API cannot be used. The message is one sentence, without a password."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        """Of HTTP, if there was an answer: 401 (login), 403 (rights), 404 (no such thing)."""


def tls_of(url: URL) -> ssl.SSLContext | None:
    """As :func:`~bridge.rabbitmq.tls.tls_context`, for https:// and http://."""
    return tls_context(url.with_scheme("amqps")) if url.scheme == "https" else None


def fetch(url: URL, path: str, headers: Mapping[str, str], timeout: float) -> bytes:
    """The body of an answer of 200. Blocks, so it is for a thread.

    `path`: below ``/api/``. `timeout`: seconds. Raises :class:`ManagementError`.
    """
    shown = printable(url)
    give_up_at = time.monotonic() + timeout
    host, port = url.host or "", url.port
    try:
        connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=tls_of(url))
            if url.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )
    except ValueError as error:  # a file for TLS
        raise ManagementError(f"{shown}: {error}") from error
    try:
        connection.request("GET", f"{url.raw_path.rstrip('/')}/api/{path}", headers=dict(headers))
        sock = connection.sock
        with connection.getresponse() as response:
            body = _read(response, sock, give_up_at, shown)
    except (OSError, http.client.HTTPException) as error:
        raise ManagementError(
            f"no management API at {shown}: {_reason(error)}; is the plugin rabbitmq_management "
            "enabled, and the URL right?"
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        raise _refused(response.status, body, path.partition("?")[0], shown, url.user or "guest")
    return body


def _read(
    response: http.client.HTTPResponse, sock: socket.socket | None, give_up_at: float, shown: str
) -> bytes:
    """All of an answer, in time: one that trickles would keep its thread for ever."""
    parts: list[bytes] = []
    size = 0
    while True:
        left = give_up_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if sock is not None and sock.fileno() >= 0:
            sock.settimeout(left)
        part = response.read1(65_536)
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > LARGEST:
            raise ManagementError(
                f"the answer of the management API at {shown} is larger than {LARGEST >> 20} MiB"
            )
        parts.append(part)


def _refused(status: int, body: bytes, place: str, shown: str, user: str) -> ManagementError:
    if status == 401:
        sentence = (
            f"the management API at {shown} refused the user name or password, or the user has "
            "none of the tags management, monitoring and administrator "
            f"(rabbitmqctl set_user_tags {escaped(user)} monitoring)"
        )
    elif status == 403:
        sentence = f"the user {escaped(user)} may not see {place} at {shown}"
    elif status == 404:
        sentence = f"there is no {place} at {shown}"
    else:
        sentence = f"the management API at {shown} answered {status} to {place}"
        sentence += f": {said}" if (said := _words(body)) else ""
    return ManagementError(sentence, status)


_TABLES: Final = frozenset(
    {
        "arguments",
        "channel_details",
        "client_properties",
        "effective_policy_definition",
        "message_stats",
    }
)
_NUMBERS: Final = frozenset(
    {
        "fd_used",
        "fd_total",
        "sockets_used",
        "sockets_total",
        "proc_used",
        "proc_total",
        "mem_used",
        "mem_limit",
        "disk_free",
        "disk_free_limit",
        "head_message_timestamp",
        "messages",
        "messages_ready",
        "messages_unacknowledged",
        "message_bytes",
        "consumers",
        "channels",
        "connected_at",
        "timeout",
        "uptime",
    }
)


def plain(raw: Any) -> Any:
    """The same without the API's ways to say nothing.

    An empty table may be ``[]`` (Erlang has one word for both), an unknown number a text, and what
    is not known null.
    """
    if isinstance(raw, list):
        return [plain(each) for each in raw]
    if not isinstance(raw, dict):
        return raw
    return {key: value for key, value in raw.items() if not _says_nothing(key, value)}


def _says_nothing(key: str, value: Any) -> bool:
    return (
        value is None
        or (key in _TABLES and not isinstance(value, dict))
        or (key in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int)))
    )


def _words(body: bytes) -> str:
    """What an error says: an object of JSON with ``reason``, mostly."""
    try:
        told: Mapping[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return escaped(str(told.get("reason") or told.get("error") or ""))[:_ERROR_LENGTH]


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, ssl.SSLError):
        return escaped(error.reason or str(error))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return escaped(str(error)) or type(error).__name__
