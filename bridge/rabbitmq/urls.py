"""Broker URLs: read, checked, and shown without what is secret in them."""

import enum
import random
import re
from collections.abc import Sequence
from typing import Final

from yarl import URL

from bridge.rabbitmq.tls import TLS_OPTIONS, tls_context

HEARTBEAT: Final = 10
"""Seconds between heartbeats: a dead peer is noticed within 20 to 30 s. RabbitMQ advises 5 to 20
(https://www.rabbitmq.com/docs/heartbeats)."""
_HEARTBEAT_MAX: Final = 65_535
"""Seconds; a short integer in Connection.Tune (AMQP 0-9-1 §1.4.2.6)."""

_OPTIONS: Final = ("heartbeat", "auth", "passwordfile", *TLS_OPTIONS)
_BETWEEN: Final = re.compile(r"[\s,]+(?=amqps?:)", re.IGNORECASE)
"""What separates URLs. Anywhere else, a comma is part of one: passwords may have it."""
_HOW: Final = (
    "expected amqp://user:password@host:5672/vhost or amqps://…; in user, password and virtual "
    "host, write other characters than letters, digits and - . _ ~ percent-encoded: "
    "%40 for @, %2F for /, %23 for #, %3F for ?, %3A for :, %5B for [, %25 for %"
)


class HostOrder(enum.StrEnum):
    """Which of a broker's hosts is tried first. Those after it follow in the order given."""

    RANDOM = "random"
    """Any of them, so that a fleet spreads over a cluster."""
    GIVEN = "given"
    """The first."""


def in_order(urls: Sequence[URL], order: HostOrder) -> list[URL]:
    """The hosts in the order in which they are tried."""
    first = random.randrange(len(urls)) if order is HostOrder.RANDOM else 0
    return [*urls[first:], *urls[:first]]


def printable(url: URL) -> str:
    """A URL without its password and options, for people.

    A user without a password or with a colon is not shown either, nor a virtual host with one of
    @ : and comma: they may be a password, or a part of another URL, at the wrong place.
    """
    shown = url.with_query(None).with_fragment(None)
    if re.search("[@:,]", shown.path):
        shown = shown.with_path("/***")
    if shown.password and ":" not in str(shown.user):
        return str(shown.with_password("***"))
    return str(shown.with_password(None).with_user("***") if shown.user else shown)


_QUOTED: Final = re.compile(r"""(?<!\S)(['"(])(?!-).*@(?!\s)""", re.DOTALL)
_WORD: Final = re.compile(r"(?<!\S)[^'\"(\s]\S*@(?!\s)")


def without_secrets(text: str) -> str:
    """A sentence that may quote a URL or a part of one, without the user and password in it.

    Between the quotation mark and the last ``@`` nothing is left, because a password may hold any
    character.
    """
    return _WORD.sub("***@", _QUOTED.sub(r"\1***@", text))


def parse_urls(texts: Sequence[str]) -> list[URL]:
    """Broker URLs, checked, with the files that their options name.

    A text may hold several, separated by spaces or commas. Raises ValueError, with a sentence for
    people, at an invalid one. The sentence quotes nothing of it, because where the password begins
    and ends in a URL that is not one, nobody can tell.
    """
    parts = [part for text in texts for part in _BETWEEN.split(text.strip(" \t\r\n,")) if part]
    if not parts:
        raise ValueError("no broker URL is given")
    urls = []
    for number, part in enumerate(parts, 1):
        which = "this" if len(parts) == 1 else f"number {number} of {len(parts)}"
        url, wrong = _parse(part)
        if url is None:
            raise ValueError(f"{which} is not a broker URL: {wrong}; {_HOW}")
        _check_options(url)
        urls.append(url)
    return urls


def _parse(text: str) -> tuple[URL | None, str]:
    """The URL; or None, and what is wrong with the text."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in {"amqp", "amqps"}:
        return None, "it does not begin with amqp:// or amqps://"
    if any(each.isspace() or not each.isprintable() for each in text):
        return None, "it has spaces or control characters"
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :]:
        # Else, most of a password would be taken for a virtual host, and shown.
        return None, "an @ comes after the first of / ? #"
    if "#" in rest:
        return None, "it has a #"
    user, _, host = authority.rpartition("@")
    if "[" in user or "]" in user or "\\" in authority:
        return None, "its user or password has one of [ ] \\"
    if host.endswith(":"):
        return None, "there is no number after the host's colon"
    if "%" in host and not host.startswith("["):
        # Whoever encoded the colon between user and password has a password for a host, or a part.
        return None, "its host has a %"
    try:
        url = URL(text)
        if url.host and url.port != 0:
            return url, ""
    except ValueError:
        pass  # its text may quote the password
    return None, "it has no host, or the port is not a number up to 65535"


_OPTION: Final = re.compile("[a-z_]{1,40}")


def _check_options(url: URL) -> None:
    """Raises ValueError for an option that does not exist or does not fit."""
    shown = printable(url)
    unknown = sorted(set(url.query) - set(_OPTIONS))
    if unknown:
        # What does not look like an option may be part of a password with a question mark in it.
        names = [repr(name) for name in unknown[:5] if _OPTION.fullmatch(name)]
        told = f": {', '.join(names)}" if names else ""
        raise ValueError(f"{shown} has unknown options{told}; known are {', '.join(_OPTIONS)}")
    for name in _OPTIONS:
        if len(url.query.getall(name, ())) > 1:
            raise ValueError(f"the option {name} of {shown} is given more than once")
        if url.query.get(name) == "":
            raise ValueError(f"the option {name} of {shown} is empty")
    heartbeat = url.query.get("heartbeat", str(HEARTBEAT))
    if not heartbeat.isdecimal() or int(heartbeat) > _HEARTBEAT_MAX:
        raise ValueError(
            f"heartbeat={heartbeat} of {shown} is not a number of seconds up to {_HEARTBEAT_MAX}"
        )
    try:
        tls_context(url)
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from None
    used = [name for name in TLS_OPTIONS if name in url.query]
    if used and url.scheme != "amqps":
        raise ValueError(f"{shown} has {', '.join(used)}, which only amqps:// takes")
