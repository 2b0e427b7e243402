"""Routing keys, and the names of exchanges and queues (``docs/contract.md``)."""

import functools
import hashlib
import urllib.parse
from typing import Annotated, Final

import msgspec

from bridge.ocpp.data_transfer import VENDOR_ID_MAX_LENGTH
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.request.retry import milliseconds

_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789.-")
_KEY_LENGTH: Final = 200
"""Characters. A queue's name has at most 255 bytes, and a prefix stands before the key."""
_KEY_KEPT: Final = 100
"""Characters of a longer key that stay."""
_BYTES: Final = tuple(chr(byte) if byte in _KEPT else f"_{byte:02x}" for byte in range(256))
_CASED_BYTES: Final = tuple(
    chr(byte) if 65 <= byte <= 90 else text for byte, text in enumerate(_BYTES)
)
"""As :data:`_BYTES`, but ``A-Z`` stay."""

_SHORT: Final = 64
"""Characters of a vendorId whose key is remembered. Stations spell them, so that what is remembered
is bounded in bytes as well: an entry has at most 1 kB."""
_REMEMBERED: Final = 1_024
"""Keys that are remembered: those that were asked for last."""

PREFIX: Final = "datatransfer"
"""How all exchanges and queues begin, unless it is set."""

RESERVED: Final = ("dead", "unknown-vendor")
RESERVED_PREFIXES: Final = ("retry.", "replies.")
"""Names of the bridge's own queues. A vendor of that name still gets a queue of its own."""


def vendor_key(vendor_id: str) -> str:
    """The routing key of a vendorId: at most 200 characters from ``a-z 0-9 . - _``.

    The rule is easy to write in any language. ASCII letters become lower case. Of the UTF-8 form,
    each byte other than ``a-z 0-9 . -`` becomes ``_`` and two lower-case hexadecimal digits. Of a
    key above 200 characters the first 100 stay, followed by ``_x`` and the SHA-256 of the whole key
    in hexadecimal digits.
    """
    return _short_vendor_key(vendor_id) if len(vendor_id) <= _SHORT else _vendor_key(vendor_id)


def _vendor_key(vendor_id: str) -> str:
    return _bounded(
        "".join(map(_BYTES.__getitem__, vendor_id.encode("utf-8", "surrogatepass").lower()))
    )


_short_vendor_key = functools.lru_cache(_REMEMBERED)(_vendor_key)


def vendor_of_key(key: str) -> str:
    """The vendorId that has this key, in lower case; the key itself, if it was cut or is none."""
    escaped = key.replace("_", "%")
    try:
        vendor_id = urllib.parse.unquote(escaped, errors="strict")
    except UnicodeDecodeError:
        return key
    return vendor_id if vendor_key(vendor_id) == key else key


def station_key(station_id: str) -> str:
    """The routing key of a charging station: as :func:`vendor_key`, but letters keep their case.

    OCPP says that case does not count in a vendorId, and says nothing like it of a station's
    identity: ``CP1`` and ``cp1`` are two stations, each with its own URL. Two stations never share
    a key.
    """
    return _bounded(
        "".join(map(_CASED_BYTES.__getitem__, station_id.encode("utf-8", "surrogatepass")))
    )


OTHER_VENDORS: Final = "other"
"""How the routing keys of events begin whose vendor nobody handles: stations spell those vendors,
and there must be a bound."""


def event_word(vendor_id: str) -> str:
    """How the routing keys of one vendor's events begin; the outcome follows, as the last word.

    It is :func:`vendor_key`. A key has as many words (AMQP 0-9-1 §3.1.3.3) as the vendorId has dots
    and one more, and an outcome is one word, so ``com.acme.*`` is bound to the events of
    ``com.acme`` and of nobody else. If a vendor's key is :data:`OTHER_VENDORS`, its first letter is
    escaped, as it is in :meth:`Names.vendor_queue`.
    """
    key = vendor_key(vendor_id)
    return f"_{ord(key[0]):02x}{key[1:]}" if key == OTHER_VENDORS else key


def _bounded(key: str) -> str:
    if len(key) <= _KEY_LENGTH:
        return key
    return f"{key[:_KEY_KEPT]}_x{hashlib.sha256(key.encode()).hexdigest()}"


class _Vendor(msgspec.Struct, rename="camel"):
    """The part of a payload that it is routed by."""

    vendor_id: Annotated[str, msgspec.Meta(max_length=VENDOR_ID_MAX_LENGTH)]


_decode_vendor = msgspec.json.Decoder(_Vendor).decode


def read_vendor_id(payload: bytes) -> str:
    """The vendorId of a DataTransferRequest.

    Empty if none can be read, as is its routing key then; so it is if it is longer than OCPP's 255
    characters, which no worker takes: making a key of a megabyte would take 40 ms.
    """
    try:
        return _decode_vendor(payload).vendor_id
    except DECODE_FAULTS:
        return ""


class Names(msgspec.Struct, frozen=True):
    """The names of exchanges and queues.

    All begin with one prefix, so that several bridges can share a virtual host.
    """

    prefix: str = PREFIX

    @property
    def requests(self) -> str:
        """Direct exchange: gateways publish requests here."""
        return self.prefix

    @property
    def unrouted(self) -> str:
        """Fanout exchange: gets the requests that no vendor's queue takes."""
        return f"{self.prefix}.unrouted"

    @property
    def unknown_vendor(self) -> str:
        """Queue: holds these requests. Every worker answers them."""
        return f"{self.prefix}.unknown-vendor"

    @property
    def dead(self) -> str:
        """Fanout exchange and queue: requests that were given up."""
        return f"{self.prefix}.dead"

    def retry(self, delay: float) -> str:
        """Fanout exchange and queue: requests that wait for their next try.

        `delay`: seconds, one of :data:`~bridge.request.retry.DELAYS`.
        """
        return f"{self.prefix}.retry.{milliseconds(delay)}"

    @property
    def after_retry(self) -> str:
        """Exchange: where requests go after their pause, each with its routing key."""
        return self.requests

    @property
    def events(self) -> str:
        """Topic exchange: what becomes of requests, by :func:`event_word` and outcome."""
        return f"{self.prefix}.events"

    @property
    def paused(self) -> str:
        """Direct exchange and queue: a vendor is paused while its key binds the one to the other.

        No vendor's queue can have this name, or that of :attr:`control`: theirs begin with the
        prefix and a dot.
        """
        return f"{self.prefix}-paused"

    @property
    def control(self) -> str:
        """Fanout exchange: tells workers to look again which vendors are paused.

        How the names of the private queues begin that workers bind to it, too; a dot follows.
        """
        return f"{self.prefix}-control"

    @property
    def stations(self) -> str:
        """Direct exchange: requests of the CSMS to stations, by :func:`station_key`."""
        return f"{self.prefix}.stations"

    @property
    def replies(self) -> str:
        """How the reply queues begin that gateways declare themselves.

        Such a queue is always allowed as ``reply_to``.
        """
        return f"{self.prefix}.replies."

    def vendor_queue(self, vendor_id: str) -> str:
        """Queue: the requests of one vendor.

        If a vendor's key is the name of one of the bridge's own queues, the first letter is
        escaped. :func:`vendor_key` never escapes a letter, so no other vendor has that queue.
        """
        key = vendor_key(vendor_id)
        if key in RESERVED or key.startswith(RESERVED_PREFIXES):
            key = f"_{ord(key[0]):02x}{key[1:]}"
        return f"{self.prefix}.{key}"
