"""What a gateway reads in the opening HTTP request of a WebSocket: who connects, and as whom.

Pure functions: no I/O.
"""

import base64
import binascii
import urllib.parse
from collections.abc import Sequence
from typing import Final

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


def offered_versions(headers: Sequence[str]) -> list[str]:
    """The sub-protocols in all `Sec-WebSocket-Protocol` headers of a request (RFC 6455 §11.3.4)."""
    return [name for header in headers for name in map(str.strip, header.split(",")) if name]


def choose_version(
    offered: Sequence[str], preferred: Sequence[OcppVersion] = PREFERRED
) -> OcppVersion | None:
    """The version to speak: the first of `preferred` that the station offers, or None."""
    return next((version for version in preferred if version.value in offered), None)
