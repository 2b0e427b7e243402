"""Routing keys, and the names of exchanges and queues."""

import hashlib
from typing import Final

import msgspec

from bridge.ocpp.faults import DECODE_FAULTS
from bridge.request.retry import milliseconds

_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789.-")
_KEY_LENGTH: Final = 200
"""Characters. A queue name has at most 255 bytes, and a prefix stands before the key."""
_KEY_KEPT: Final = 100
_BYTES: Final = tuple(chr(byte) if byte in _KEPT else f"_{byte:02x}" for byte in range(256))
_CASED_BYTES: Final = tuple(
    chr(byte) if 65 <= byte <= 90 else text for byte, text in enumerate(_BYTES)
)
""":data:`_BYTES`, and ``A-Z`` as they are."""

PREFIX: Final = "datatransfer"
"""How all exchanges and queues begin, unless it is set."""

RESERVED: Final = ("dead", "unknown-vendor")
RESERVED_PREFIXES: Final = ("retry.", "replies.")
"""Names of the bridge's own queues. A vendor so called has a queue of its own all the same."""


def vendor_key(vendor_id: str) -> str:
    """The routing key of a vendorId: at most 200 characters from ``a-z 0-9 . - _``, easy in any language.

    ASCII letters become lower case; of the UTF-8 form every byte but ``a-z 0-9 . -`` becomes ``_`` and two lower-case
    hexadecimal digits; of a key above 200 characters the first 100 stay, then ``_x`` and the SHA-256 of them all.
    """
    return _bounded(
        "".join(map(_BYTES.__getitem__, vendor_id.encode("utf-8", "surrogatepass").lower()))
    )


def station_key(station_id: str) -> str:
    """The routing key of a charging station: as :func:`vendor_key`, but letters keep their case.

    OCPP says of a vendorId that case does not count, and nothing of the kind of a station's identity: ``CP1`` and ``cp1`` are two
    stations, each with its own URL. So ``A-Z`` stay as well. Two stations never share a key.
    """
    return _bounded(
        "".join(map(_CASED_BYTES.__getitem__, station_id.encode("utf-8", "surrogatepass")))
    )


def _bounded(key: str) -> str:
    if len(key) <= _KEY_LENGTH:
        return key
    return f"{key[:_KEY_KEPT]}_x{hashlib.sha256(key.encode()).hexdigest()}"


class _Vendor(msgspec.Struct, rename="camel"):
    """Of a payload, what it is routed by."""

    vendor_id: str


_decode_vendor = msgspec.json.Decoder(_Vendor).decode


def read_vendor_id(payload: bytes) -> str:
    """The vendorId of a DataTransferRequest; empty if none can be read, and then the routing key is empty as well."""
    try:
        return _decode_vendor(payload).vendor_id
    except DECODE_FAULTS:
        return ""


class Names(msgspec.Struct, frozen=True):
    """Exchanges and queues, all below one prefix, so that several bridges can share a virtual host."""

    prefix: str = PREFIX

    @property
    def requests(self) -> str:
        """Exchange: gateways publish requests here. Direct."""
        return self.prefix

    @property
    def unrouted(self) -> str:
        """Exchange: where requests go that no vendor's queue takes. Fanout."""
        return f"{self.prefix}.unrouted"

    @property
    def unknown_vendor(self) -> str:
        """Queue: those requests; every worker answers them."""
        return f"{self.prefix}.unknown-vendor"

    @property
    def dead(self) -> str:
        """Exchange (fanout) and queue: what could not be handled."""
        return f"{self.prefix}.dead"

    def retry(self, delay: float) -> str:
        """Exchange (fanout) and queue: requests that wait `delay` seconds, one of DELAYS, for their next try."""
        return f"{self.prefix}.retry.{milliseconds(delay)}"

    @property
    def after_retry(self) -> str:
        """Exchange: where they go then, each with its routing key."""
        return self.requests

    @property
    def stations(self) -> str:
        """Exchange: requests from the CSMS to stations, by :func:`station_key`. Direct."""
        return f"{self.prefix}.stations"

    @property
    def replies(self) -> str:
        """How reply queues begin that gateways declare themselves; always allowed as ``reply_to``."""
        return f"{self.prefix}.replies."

    def vendor_queue(self, vendor_id: str) -> str:
        """Queue: the requests of one vendor.

        A vendor whose key is the name of one of the bridge's own queues gets one with its first letter written as
        :func:`vendor_key` never writes it.
        """
        key = vendor_key(vendor_id)
        if key in RESERVED or key.startswith(RESERVED_PREFIXES):
            key = f"_{ord(key[0]):02x}{key[1:]}"
        return f"{self.prefix}.{key}"
