"""Addresses to listen on."""

import ipaddress
import urllib.parse


def parse_listen(text: str) -> tuple[str | None, int]:
    """The host and port of ``HOST:PORT``, ``[IPv6]:PORT`` or ``:PORT``.

    A host of None is every interface. Raises ValueError with a sentence for any other text.
    """
    wrong = ValueError(f"{text!r} is not HOST:PORT, for example 0.0.0.0:9000 or [::1]:9000")
    try:
        parts = urllib.parse.urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if port is None or parts.netloc != text or "@" in text or any(map(str.isspace, text)):
        raise wrong
    if text.startswith("["):
        try:
            ipaddress.IPv6Address(host or "")
        except ValueError:
            raise wrong from None
    return host, port
