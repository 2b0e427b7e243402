"""RabbitMQ's management API, read: what AMQP cannot tell.

AMQP 0-9-1 lists nothing, and shows neither the arguments of a queue nor its bindings. The HTTP API
of the plugin rabbitmq_management does. It needs a user with the tag ``monitoring`` (or
``management``, which sees less), and it changes nothing here: all methods are GET.
"""

import asyncio
import base64
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

import msgspec
from yarl import URL

from bridge.rabbitmq.management_http import TIMEOUT, ManagementError, fetch, plain, tls_of
from bridge.rabbitmq.tls import TLS_OPTIONS
from bridge.rabbitmq.urls import printable

__all__ = ["ManagementError"]

PORT: Final = 15_672
TLS_PORT: Final = 15_671
"""The usual ports of the API (https://www.rabbitmq.com/docs/management)."""
PAGE: Final = 500
"""Items of a list that are asked for at a time; the API allows no more."""
PAGES: Final = 2_000
"""Pages of one list, at most."""

T = TypeVar("T")


# ---- what it tells ----


class ClusterStats(msgspec.Struct, frozen=True):
    """Publishings that no queue took, of all programs together."""

    drop_unroutable: int = 0
    return_unroutable: int = 0
    """Mandatory ones, which their publishers got back."""


class ExchangeType(msgspec.Struct, frozen=True):
    """A type of exchange that the broker knows: its own, or a plugin's."""

    name: str
    enabled: bool = True


class Overview(msgspec.Struct, frozen=True):
    """The broker."""

    rabbitmq_version: str
    erlang_version: str = ""
    cluster_name: str = ""
    node: str = ""
    """The node that answers."""
    disable_stats: bool = False
    """``management_metrics_collection`` is denied: there are no rates, and few counts."""
    message_stats: ClusterStats = ClusterStats()
    exchange_types: tuple[ExchangeType, ...] = ()
    """Of the node that answers."""


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


class ExchangeStats(msgspec.Struct, frozen=True):
    """Messages since the exchange was made, or its node started."""

    publish_in: int = 0
    publish_out: int = 0
    """To queues; what went to two counts twice."""


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
    message_stats: ExchangeStats = ExchangeStats()


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
    """Of a list. Some lists have no pages."""

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
        tls_of(url)
    except ValueError as error:
        raise ValueError(f"{printable(url)}: {error}") from None
    return url


def virtual_host(amqp_url: URL) -> str:
    """The name of the virtual host that a broker's URL leads to."""
    return unquote(amqp_url.raw_path[1:]) or "/"


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
            raw = await self._raw(f"{path}?page={number}&{query}")
            page = _Page(raw) if isinstance(raw, list) else self._convert(raw, _Page, path)
            found += [self._convert(each, kind, path) for each in page.items]
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
        return self._convert(await self._raw(path), kind, path)

    async def _raw(self, path: str) -> Any:
        body = await asyncio.to_thread(fetch, self._url, path, self._headers, self._timeout)
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise ManagementError(f"{self.url} is no management API: {error}") from error

    def _convert(self, raw: Any, kind: type[T], path: str) -> T:
        try:
            return msgspec.convert(plain(raw), kind)
        except msgspec.ValidationError as error:
            place = path.partition("?")[0]
            raise ManagementError(
                f"the management API at {self.url} does not say what is expected of {place}: "
                f"{error}"
            ) from error


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
