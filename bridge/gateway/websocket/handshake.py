"""Who connects, and whether it may: what a gateway reads in the opening HTTP request of a WebSocket. Pure."""

import base64
import binascii
import urllib.parse
from collections.abc import Sequence
from typing import Final

from bridge.dialects.headers import STATION_ID_MAX_LENGTH
from bridge.ocpp import OcppVersion

PREFERRED: Final = (OcppVersion.V2_1, OcppVersion.V2_0_1, OcppVersion.V2_0, OcppVersion.V1_6)
"""The newest version that both sides speak says most."""


def station_id(target: str, prefix: str) -> str | None:
    """The charging station that a request for `target` is from: the percent-decoded rest of its path behind `prefix`.

    None for a path that names none (OCPP-J 1.6 §3.1.1, §3.2): not behind the prefix, of more than one segment, not UTF-8, with
    control characters, or longer than the contract allows. A query is not looked at.
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
    """The password in a header `Authorization: Basic …` whose user is the station (OCPP-J 1.6 §6.2.2); None if there is none.

    The colon that ends the user's name is the one behind the station's id: an id of OCPP 1.6 may hold others.
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


def offered_versions(headers: Sequence[str]) -> list[str]:
    """The sub-protocols in all headers `Sec-WebSocket-Protocol` of a request (RFC 6455 §11.3.4)."""
    return [name for header in headers for name in map(str.strip, header.split(",")) if name]


def choose_version(
    offered: Sequence[str], preferred: Sequence[OcppVersion] = PREFERRED
) -> OcppVersion | None:
    """The sub-protocol to speak: the first of `preferred` that the station offers; None if it offers none of them."""
    return next((version for version in preferred if version.value in offered), None)
