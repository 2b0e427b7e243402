"""What a gateway reads in the opening HTTP request of a WebSocket: who connects, and as whom.

Pure functions: no I/O.
"""

import base64
import binascii
import ipaddress
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bridge.dialects.headers import STATION_ID_MAX_LENGTH
from bridge.ocpp import OcppVersion

PREFERRED: Final = (OcppVersion.V2_1, OcppVersion.V2_0_1, OcppVersion.V2_0, OcppVersion.V1_6)
"""The versions from the newest to the oldest: the newer the version, the more it can express."""


ID: Final = "{id}"
"""In a pattern: a segment that is the station's id, or a part of it."""

ANY: Final = "*"
"""In a pattern: one segment, whatever it is, such as a tenant."""

_AUTHORITY: Final = re.compile(r"(?:ws|http)s?://[^/?#]*", re.IGNORECASE)
_NOT_ENCODED: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadTarget(ValueError):
    """A request target that is no URL: invalid percent-encoding."""


def segments(target: str) -> list[str]:
    """The segments of the path in `target`, still percent-encoded; empty ones are left out.

    Stations make "//CP1" and "/CP1/" of endpoints that were configured with a slash too many, and
    some send the absolute form, which a server must accept (RFC 9112 §3.2.2). A query is ignored.
    """
    authority = _AUTHORITY.match(target)
    path = target if authority is None else target[authority.end() :]
    return [segment for segment in path.partition("?")[0].split("/") if segment]


def station_id(target: str, pattern: str) -> str | None:
    """The station id in the path `target`, percent-decoded.

    `pattern`: the path, in which each ``{id}`` stands for a segment of the id (several are joined
    by slashes) and each ``*`` for a segment that may be anything. A pattern without ``{id}`` is
    what stands before the id. None if the path names no station (OCPP-J 1.6 §3.1.1, §3.2): it does
    not fit the pattern, or the id holds unprintable characters or is longer than the wire contract
    allows. Raises BadTarget for an id whose percent-encoding is invalid.
    """
    found, expected = segments(target), segments(pattern)
    if ID not in expected:
        expected.append(ID)
    if len(found) != len(expected):
        return None
    parts: list[str] = []
    for segment, wanted in zip(found, expected, strict=True):
        if wanted == ID:
            parts.append(segment)
        elif wanted not in {ANY, segment}:
            return None
    name = "/".join(map(_decoded, parts))
    return name if len(name) <= STATION_ID_MAX_LENGTH and name.isprintable() else None


def certificate_names(certificate: Mapping[str, Any] | None) -> set[str]:
    """Whose TLS certificate this is: its common name, and its DNS names (RFC 6125 §6.4).

    `certificate`: as :meth:`ssl.SSLSocket.getpeercert` tells it.
    """
    told = certificate or {}
    names = {
        value for part in told.get("subject", ()) for key, value in part if key == "commonName"
    }
    return names | {value for kind, value in told.get("subjectAltName", ()) if kind == "DNS"}


def _decoded(segment: str) -> str:
    if _NOT_ENCODED.search(segment):
        raise BadTarget("invalid percent-encoding")
    try:
        return urllib.parse.unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise BadTarget("percent-encoded bytes that are not UTF-8") from None


def password(authorization: str | None, station_id: str) -> bytes | None:
    """The password in `Authorization: Basic …`, or None unless the user is the station."""
    given = credentials(authorization, station_id)
    return given[0] if given is not None and given[1] is None else None


def credentials(authorization: str | None, station_id: str) -> tuple[bytes, str | None] | None:
    """The password in `Authorization: Basic …`, and the user's name if it is not the station's id.

    The user ought to be the station's id (OCPP-J 1.6 §6.2.2). It ends at the colon after that id:
    in OCPP 1.6 an id may itself hold colons. Any other ends at the first one. None if the header
    cannot be read.
    """
    if authorization is None:
        return None
    scheme, _, encoded = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    own = station_id.encode() + b":"
    if given.startswith(own):
        return given[len(own) :], None
    user, colon, password = given.partition(b":")
    try:
        return (password, user.decode()) if colon else None
    except UnicodeDecodeError:
        return None


def origin_allowed(
    origins: Sequence[str], hosts: Sequence[str], allowed: Sequence[str], *, any_name: bool
) -> bool:
    """Whether the `Origin` headers of a request are none, or one that may connect (RFC 6455 §10.2).

    A browser names the page's origin, and lets any page connect to any address that it reaches.
    Stations send no origin, or that of the gateway itself, as some libraries do; it is taken if the
    gateway is addressed by number or as localhost. By a name it could be a page whose name has been
    made to point here (DNS rebinding): `any_name` takes it all the same, where a password is asked
    for, which such a page lacks. `allowed`: further origins; ``*`` is any.
    """
    if not origins or "*" in allowed:
        return True
    if len(origins) > 1 or len(hosts) != 1:
        return False
    origin = origins[0].strip().lower().rstrip("/")
    if origin in {text.lower().rstrip("/") for text in allowed}:
        return True
    try:
        own, page = urllib.parse.urlsplit(f"//{hosts[0].strip()}"), urllib.parse.urlsplit(origin)
        same = (page.hostname, page.port or _PORTS.get(page.scheme)) in {
            (own.hostname, own.port or port) for port in _PORTS.values()
        }
    except ValueError:
        return False
    return same and own.hostname is not None and (any_name or _is_here(own.hostname))


_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def _is_here(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return True


def offered_versions(headers: Sequence[str]) -> list[str]:
    """The sub-protocols in all `Sec-WebSocket-Protocol` headers of a request (RFC 6455 §11.3.4)."""
    return [name for header in headers for name in map(str.strip, header.split(",")) if name]


def choose_version(
    offered: Sequence[str], preferred: Sequence[OcppVersion] = PREFERRED
) -> OcppVersion | None:
    """The version to speak: the first of `preferred` that the station offers, or None."""
    return next((version for version in preferred if version.value in offered), None)
