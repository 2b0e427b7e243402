"""RabbitMQ's management API, read: what AMQP cannot tell.

AMQP 0-9-1 lists nothing, and shows neither the arguments of a queue nor its bindings. The HTTP API
of the plugin rabbitmq_management does. It needs a user with the tag ``monitoring`` (or
``management``, which sees less), and it changes nothing here: all methods are GET.

Requests run in threads, one connection each, bounded in time and size. No redirect is followed and
no proxy is used, because each request carries the password.
"""

import asyncio
import base64
import http.client
import re
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

import msgspec
from yarl import URL

from bridge.rabbitmq.tls import TLS_OPTIONS, tls_context
from bridge.rabbitmq.urls import printable
from bridge.telemetry.lines import escaped
from bridge.transport import TransportError

PORT: Final = 15_672
TLS_PORT: Final = 15_671
"""The usual ports of the API (https://www.rabbitmq.com/docs/management)."""
TIMEOUT: Final = 10.0
"""Seconds for one request, from the connection to the last byte."""
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of an answer at most. A page of 500 queues has one or two million."""
PAGE: Final = 500
"""Items of a list that are asked for at a time; the API allows no more."""
PAGES: Final = 2_000
"""Pages of one list, at most."""
_ERROR_LENGTH: Final = 300
"""Characters of the API's own words that are shown."""

T = TypeVar("T")


class ManagementError(TransportError):
    """The management API cannot be used. The message is one sentence, without a password."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        """Of HTTP, if there was an answer: 401 (login), 403 (rights), 404 (no such thing)."""


# ---- what it tells ----


class Overview(msgspec.Struct, frozen=True):
    """The broker."""

    rabbitmq_version: str
    erlang_version: str = ""
    cluster_name: str = ""
    node: str = ""
    """The node that answers."""
    disable_stats: bool = False
    """``management_metrics_collection`` is denied: there are no rates, and few counts."""


class Node(msgspec.Struct, frozen=True):
    """A node of the cluster. What is None, it does not say."""

    name: str
    running: bool = False
    uptime: int | None = None
    """Milliseconds."""
    fd_used: int | None = None
    fd_total: int | None = None
    """Open files, and the limit."""
    sockets_used: int | None = None
    sockets_total: int | None = None
    proc_used: int | None = None
    proc_total: int | None = None
    """Erlang processes, and the limit."""
    mem_used: int | None = None
    mem_limit: int | None = None
    """Bytes; the limit is the watermark above which publishers are blocked."""
    mem_alarm: bool = False
    disk_free: int | None = None
    disk_free_limit: int | None = None
    """Bytes."""
    disk_free_alarm: bool = False


class Rate(msgspec.Struct, frozen=True):
    """Of a count."""

    rate: float = 0.0
    """A second."""


class MessageStats(msgspec.Struct, frozen=True):
    """Messages that went through a queue since it was made, or its node started."""

    publish: int = 0
    publish_details: Rate = Rate()
    deliver_get: int = 0
    deliver_get_details: Rate = Rate()
    ack: int = 0
    ack_details: Rate = Rate()
    redeliver: int = 0
    redeliver_details: Rate = Rate()


class LiveQueue(msgspec.Struct, frozen=True):
    """A queue, as it is."""

    name: str
    vhost: str = ""
    type: str = "classic"
    durable: bool = True
    auto_delete: bool = False
    exclusive: bool = False
    arguments: dict[str, Any] = {}
    policy: str | None = None
    """The name of the policy that applies to it."""
    operator_policy: str | None = None
    effective_policy_definition: dict[str, Any] = {}
    """What both policies set, by their names: ``delivery-limit``, not ``x-delivery-limit``."""
    messages: int = 0
    messages_ready: int = 0
    messages_unacknowledged: int = 0
    message_bytes: int = 0
    consumers: int = 0
    head_message_timestamp: int | None = None
    """The timestamp property of the oldest message, if it has one: seconds of Unix time."""
    node: str = ""
    leader: str = ""
    members: list[str] = []
    online: list[str] = []
    """Replicas of a quorum queue, and those whose nodes run."""
    state: str = ""
    """``running``, ``idle`` or ``flow``; ``down`` and ``minority`` are what they say."""
    message_stats: MessageStats = MessageStats()


class LiveExchange(msgspec.Struct, frozen=True):
    """An exchange, as it is."""

    name: str
    type: str
    vhost: str = ""
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: dict[str, Any] = {}
    policy: str | None = None


class LiveBinding(msgspec.Struct, frozen=True):
    """A binding, as it is."""

    source: str
    """The exchange; empty: the default exchange, to which every queue is bound."""
    destination: str
    destination_type: str
    """``queue`` or ``exchange``."""
    routing_key: str
    arguments: dict[str, Any] = {}


class LiveConnection(msgspec.Struct, frozen=True):
    """A client's connection."""

    name: str
    """Its addresses: ``10.0.0.7:40112 -> 10.0.0.1:5672``."""
    vhost: str = ""
    user: str = ""
    user_provided_name: str = ""
    """What the client calls itself: ``dtbridge@host:123 consume``."""
    peer_host: str = ""
    state: str = ""
    """``running``, ``blocked``, ``blocking``, ``flow`` and others."""
    channels: int = 0
    connected_at: int | None = None
    """Milliseconds of Unix time."""
    timeout: int | None = None
    """Seconds between heartbeats."""
    ssl: bool = False
    client_properties: dict[str, Any] = {}


class ConsumedQueue(msgspec.Struct, frozen=True):
    name: str
    vhost: str = ""


class ConsumingChannel(msgspec.Struct, frozen=True):
    connection_name: str = ""
    """As :attr:`LiveConnection.name`."""
    user: str = ""
    peer_host: str | None = None
    number: int = 0


class LiveConsumer(msgspec.Struct, frozen=True):
    """A consumer."""

    queue: ConsumedQueue
    consumer_tag: str
    channel_details: ConsumingChannel = ConsumingChannel()
    ack_required: bool = True
    prefetch_count: int = 0
    exclusive: bool = False
    active: bool = True


class Permission(msgspec.Struct, frozen=True):
    """What a user may do in a virtual host: a regular expression for names, each."""

    vhost: str
    user: str = ""
    configure: str = ""
    write: str = ""
    read: str = ""


class User(msgspec.Struct, frozen=True):
    """Who has logged in."""

    name: str
    tags: str | list[str] = ""


class _Page(msgspec.Struct):
    items: list[Any]
    page_count: int = 1


# ---- where it is ----


def management_urls(texts: Sequence[str], amqp_urls: Sequence[URL]) -> list[URL]:
    """Where the API is: what `texts` say, or the broker's hosts at the usual port.

    A text may hold several URLs, separated by spaces. One without user and password has those of
    the first of `amqp_urls`. Raises ValueError with a sentence that quotes none of them.
    """
    parts = [part for text in texts for part in text.split()]
    if not parts:
        return [_beside(url) for url in amqp_urls]
    urls = []
    for part in parts:
        url = _parse(part)
        if url.user is None and amqp_urls:
            url = url.with_user(amqp_urls[0].user).with_password(amqp_urls[0].password)
        urls.append(url)
    return urls


def _beside(amqp_url: URL) -> URL:
    """The API of the same host, with the same login and the same files for TLS."""
    encrypted = amqp_url.scheme == "amqps"
    kept = {name: value for name, value in amqp_url.query.items() if name in TLS_OPTIONS}
    return URL.build(
        scheme="https" if encrypted else "http",
        user=amqp_url.user,
        password=amqp_url.password,
        host=amqp_url.host or "",
        port=TLS_PORT if encrypted else PORT,
        query=kept,
    )


def _parse(text: str) -> URL:
    how = (
        "expected http://user:password@host:15672 or https://…; in user and password, write other "
        "characters than letters, digits and - . _ ~ percent-encoded"
    )
    scheme, _, rest = text.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if (
        scheme.lower() not in {"http", "https"}
        or "@" in rest[len(authority) :]
        or "#" in rest
        or "\\" in authority
        or not text.isprintable()
    ):
        raise ValueError(f"this is not a URL of the management API: {how}")
    try:
        url = URL(text)
    except ValueError:  # its text may quote the password
        url = URL()
    if not url.host or url.port == 0:
        raise ValueError(f"this is not a URL of the management API: {how}")
    unknown = set(url.query) - set(TLS_OPTIONS)
    if unknown or (url.scheme == "http" and url.query):
        raise ValueError(
            f"{printable(url)} has options it does not take: https:// takes "
            f"{', '.join(TLS_OPTIONS)}, and http:// none"
        )
    try:
        _context(url)
    except ValueError as error:
        raise ValueError(f"{printable(url)}: {error}") from None
    return url


def virtual_host(amqp_url: URL) -> str:
    """The name of the virtual host that a broker's URL leads to."""
    return unquote(amqp_url.raw_path[1:]) or "/"


def _context(url: URL) -> ssl.SSLContext | None:
    return tls_context(url.with_scheme("amqps")) if url.scheme == "https" else None


# ---- the client ----


class Management:
    """The API at one URL. Its methods raise :class:`ManagementError`."""

    def __init__(self, url: URL, timeout: float = TIMEOUT) -> None:
        """`url`: as :func:`management_urls` makes it. `timeout`: seconds for one request."""
        self._url = url
        self._timeout = timeout
        login = f"{url.user or 'guest'}:{url.password or ('' if url.user else 'guest')}"
        self._headers = {
            "Accept": "application/json",
            "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
            "Connection": "close",
        }

    @property
    def url(self) -> str:
        """Without the password."""
        return printable(self._url)

    @property
    def user(self) -> str:
        """Who it logs in as."""
        return self._url.user or "guest"

    async def overview(self) -> Overview:
        """The broker: versions, cluster, the node that answers."""
        return await self._get("overview", Overview)

    async def nodes(self) -> list[Node]:
        """The nodes of the cluster, with what they use. Needs the tag ``monitoring``."""
        return await self._get("nodes", list[Node])

    async def whoami(self) -> User:
        """The user that has logged in, with its tags."""
        return await self._get("whoami", User)

    async def queues(self, vhost: str, prefix: str = "") -> list[LiveQueue]:
        """The queues whose names are `prefix`, or begin with it and one of . : -; with '': all."""
        return await self._pages(f"queues/{_segment(vhost)}", LiveQueue, prefix)

    async def queue(self, vhost: str, name: str) -> LiveQueue | None:
        """One queue, or None."""
        path = f"queues/{_segment(vhost)}/{_segment(name)}"
        return await self._find(path, LiveQueue)

    async def exchanges(self, vhost: str, prefix: str = "") -> list[LiveExchange]:
        """The exchanges; `prefix` as for :meth:`queues`."""
        return await self._pages(f"exchanges/{_segment(vhost)}", LiveExchange, prefix)

    async def exchange(self, vhost: str, name: str) -> LiveExchange | None:
        """One exchange, or None."""
        path = f"exchanges/{_segment(vhost)}/{_segment(name)}"
        return await self._find(path, LiveExchange)

    async def bindings_of_exchange(self, vhost: str, exchange: str) -> list[LiveBinding]:
        """What is bound to an exchange; nothing if it does not exist."""
        path = f"exchanges/{_segment(vhost)}/{_segment(exchange)}/bindings/source"
        return await self._find(path, list[LiveBinding]) or []

    async def bindings_of_queue(self, vhost: str, queue: str) -> list[LiveBinding]:
        """What a queue is bound to, without the default exchange; nothing if it does not exist."""
        path = f"queues/{_segment(vhost)}/{_segment(queue)}/bindings"
        return [each for each in await self._find(path, list[LiveBinding]) or [] if each.source]

    async def bindings_to_exchange(self, vhost: str, exchange: str) -> list[LiveBinding]:
        """What an exchange is bound to; nothing if it does not exist."""
        path = f"exchanges/{_segment(vhost)}/{_segment(exchange)}/bindings/destination"
        return await self._find(path, list[LiveBinding]) or []

    async def totals(self, vhost: str, prefix: str = "") -> dict[str, int]:
        """Messages of each queue, ready and in hand. `prefix`: as for :meth:`queues`.

        A classic queue is asked; of a quorum queue it is what its leader has said last, up to five
        seconds ago. The other counts are older: they are gathered every five seconds.
        """
        path = f"queues/{_segment(vhost)}"
        live = "&disable_stats=true&enable_queue_totals=true"
        found = await self._pages(path, LiveQueue, prefix, live)
        return {queue.name: queue.messages for queue in found}

    async def connections(self, vhost: str) -> list[LiveConnection]:
        """The connections to a virtual host."""
        return await self._pages(f"vhosts/{_segment(vhost)}/connections", LiveConnection)

    async def consumers(self, vhost: str) -> list[LiveConsumer]:
        """The consumers in a virtual host."""
        return await self._get(f"consumers/{_segment(vhost)}", list[LiveConsumer])

    async def permissions(self, user: str) -> list[Permission]:
        """What a user may do, by virtual host. Needs the tag ``administrator``."""
        return await self._get(f"users/{_segment(user)}/permissions", list[Permission])

    async def _pages(self, path: str, kind: type[T], prefix: str = "", more: str = "") -> list[T]:
        query = f"page_size={PAGE}&pagination=true{more}"
        if prefix:
            pattern = quote(rf"^{re.escape(prefix)}([.:-]|$)", safe="")
            query += f"&use_regex=true&name={pattern}"
        found: list[T] = []
        for number in range(1, PAGES + 1):
            page = await self._get(f"{path}?page={number}&{query}", _Page)
            found += self._convert(page.items, list[kind], path)  # type: ignore[valid-type]  # a type at run time
            if number >= page.page_count:
                break
        return found

    async def _find(self, path: str, kind: type[T]) -> T | None:
        try:
            return await self._get(path, kind)
        except ManagementError as error:
            if error.status == 404:
                return None
            raise

    async def _get(self, path: str, kind: type[T]) -> T:
        body = await asyncio.to_thread(self._fetch, path)
        try:
            raw = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise ManagementError(f"{self.url} is no management API: {error}") from error
        return self._convert(raw, kind, path)

    def _convert(self, raw: Any, kind: type[T], path: str) -> T:
        try:
            return msgspec.convert(_plain(raw), kind)
        except msgspec.ValidationError as error:
            place = path.partition("?")[0]
            raise ManagementError(
                f"the management API at {self.url} does not say what is expected of {place}: "
                f"{error}"
            ) from error

    # In a thread:

    def _fetch(self, path: str) -> bytes:
        url = self._url
        give_up_at = time.monotonic() + self._timeout
        host, port = url.host or "", url.port
        try:
            connection = (
                http.client.HTTPSConnection(
                    host, port, timeout=self._timeout, context=_context(url)
                )
                if url.scheme == "https"
                else http.client.HTTPConnection(host, port, timeout=self._timeout)
            )
        except ValueError as error:  # a file for TLS
            raise ManagementError(f"{self.url}: {error}") from error
        try:
            connection.request(
                "GET", f"{url.raw_path.rstrip('/')}/api/{path}", headers=self._headers
            )
            response = connection.getresponse()
            body = self._read(response, connection.sock, give_up_at)
        except (OSError, http.client.HTTPException) as error:
            raise ManagementError(
                f"no management API at {self.url}: {_reason(error)}; is the plugin "
                "rabbitmq_management enabled, and the URL right (--management)?"
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            raise self._refused(response.status, body, path)
        return body

    def _read(
        self, response: http.client.HTTPResponse, sock: socket.socket | None, give_up_at: float
    ) -> bytes:
        """All of an answer, in time: one that trickles would keep its thread for ever."""
        parts: list[bytes] = []
        size = 0
        while True:
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if sock is not None:
                sock.settimeout(left)
            part = response.read1(65_536)
            if not part:
                return b"".join(parts)
            size += len(part)
            if size > LARGEST:
                raise ManagementError(
                    f"the answer of the management API at {self.url} is larger than "
                    f"{LARGEST >> 20} MiB"
                )
            parts.append(part)

    def _refused(self, status: int, body: bytes, path: str) -> ManagementError:
        place = path.partition("?")[0]
        if status == 401:
            sentence = (
                f"the management API at {self.url} refused the user name or password, or the user "
                "has none of the tags management, monitoring and administrator (rabbitmqctl "
                f"set_user_tags {escaped(self.user)} monitoring)"
            )
        elif status == 403:
            sentence = f"the user {escaped(self.user)} may not see {place} at {self.url}"
        elif status == 404:
            sentence = f"there is no {place} at {self.url}"
        else:
            sentence = f"the management API at {self.url} answered {status} to {place}"
            sentence += f": {said}" if (said := _words(body)) else ""
        return ManagementError(sentence, status)


async def open_management(urls: Sequence[URL], timeout: float = TIMEOUT) -> Management:
    """The first of the hosts whose API answers and lets us in.

    Raises :class:`ManagementError` with the words of the last one.
    """
    failure = ManagementError("no URL of a management API is given")
    for url in urls:
        management = Management(url, timeout)
        try:
            await management.whoami()
        except ManagementError as error:
            failure = error
        else:
            return management
    raise failure


def _segment(name: str) -> str:
    return quote(name, safe="")


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


def _plain(raw: Any) -> Any:
    """The same without the API's ways to say nothing.

    An empty table may be ``[]`` (Erlang has one word for both), an unknown number a text, and what
    is not known null.
    """
    if isinstance(raw, list):
        return [_plain(each) for each in raw]
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
