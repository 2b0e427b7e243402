"""What a gateway reads in the opening HTTP request of a WebSocket: who connects, and as whom.

Pure functions: no I/O.
"""

import base64
import binascii
import ipaddress
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bridge.dialects.headers import STATION_ID_MAX_LENGTH
from bridge.ocpp import OcppVersion

PREFERRED: Final = (OcppVersion.V2_1, OcppVersion.V2_0_1, OcppVersion.V2_0, OcppVersion.V1_6)
"""The versions from the newest to the oldest: the newer the version, the more it can express."""


def station_id(target: str, prefix: str) -> str | None:
    """The station id in the path `target`: the segment after `prefix`, percent-decoded.

    None if the path names no station (OCPP-J 1.6 §3.1.1, §3.2): it lacks the prefix, has more than
    one further segment, is not UTF-8, holds unprintable characters, or is longer than the wire
    contract allows. A query is ignored.
    """
    path = target.partition("?")[0]
    if not path.startswith(prefix + "/"):
        return None
    segment = path[len(prefix) + 1 :]
    if not segment or "/" in segment:
        return None
    try:
        name = urllib.parse.unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return None
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


def password(authorization: str | None, station_id: str) -> bytes | None:
    """The password in `Authorization: Basic …`, or None unless the user is the station.

    The user is the station's id (OCPP-J 1.6 §6.2.2). It ends at the colon after that id: in OCPP
    1.6 an id may itself hold colons.
    """
    if authorization is None:
        return None
    scheme, _, encoded = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        credentials = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    user = station_id.encode() + b":"
    return credentials[len(user) :] if credentials.startswith(user) else None


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
