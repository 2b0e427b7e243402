"""Broker URLs."""

from collections.abc import Sequence
from typing import Final

from yarl import URL

HEARTBEAT: Final = 10
"""Seconds between heartbeats: a dead peer is noticed within 20 to 30 s. RabbitMQ advises 5 to 20
(https://www.rabbitmq.com/docs/heartbeats)."""
_HEARTBEAT_MAX: Final = 65_535
"""Seconds; a short integer in Connection.Tune (AMQP 0-9-1 §1.4.2.6)."""


def printable(url: URL) -> str:
    """A URL without its password and options, for people."""
    shown = url.with_query(None)
    return str(shown.with_password("***") if shown.password else shown)


def parse_urls(texts: Sequence[str]) -> list[URL]:
    """Broker URLs, checked. Raises ValueError, with a sentence for people, at an invalid one."""
    urls = []
    for text in texts:
        try:
            url = URL(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is not a URL: {error}") from None
        if url.scheme not in {"amqp", "amqps"} or not url.host:
            raise ValueError(
                f"{text!r} is not a broker URL: "
                "expected amqp://user:password@host:5672/vhost or amqps://…"
            )
        heartbeat = url.query.get("heartbeat", str(HEARTBEAT))
        if not heartbeat.isdecimal() or int(heartbeat) > _HEARTBEAT_MAX:
            raise ValueError(
                f"heartbeat={heartbeat} of {printable(url)} is not a number of seconds "
                f"up to {_HEARTBEAT_MAX}"
            )
        urls.append(url)
    if not urls:
        raise ValueError("no broker URL is given")
    return urls
