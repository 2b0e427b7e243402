"""How many bytes of stations' requests may be in hand: a few compressed bytes can stand for MBs."""

from collections.abc import Callable
from typing import Final

from bridge.gateway.websocket.connection import Forwarding, Link
from bridge.gateway.websocket.notices import Notices
from bridge.ocpp import CallError, ErrorCode, OcppVersion
from bridge.request.outcome import Reply, call_error

IN_HAND: Final = 64 * 1024 * 1024
"""Bytes of all stations' requests. 10,000 stations with a request of 6 kB each fill it."""

BUSY: Final = "too many bytes are in hand"


class BytesInHand:
    """The bytes in hand of one gateway, in all and by address."""

    def __init__(self, most: int = IN_HAND) -> None:
        self._most = most
        self._all = 0
        self._by_address: dict[str, int] = {}

    @property
    def used(self) -> int:
        """Bytes in hand, in all."""
        return self._all

    def take(self, address: str, size: int) -> bool:
        """Whether there is room. One address gets half of it, so that others are served."""
        of_address = self._by_address.get(address, 0) + size
        if self._all + size > self._most or of_address > self._most // 2:
            return False
        self._all += size
        self._by_address[address] = of_address
        return True

    def give_back(self, address: str, size: int) -> None:
        self._all -= size
        left = self._by_address.pop(address, 0) - size
        if left > 0:
            self._by_address[address] = left


class BoundedLink:
    """The bridge as one station sees it, with a bound on the bytes that it has in hand there."""

    def __init__(
        self, link: Link, in_hand: BytesInHand, address: str, most: int, notices: Notices
    ) -> None:
        """`most`: bytes of this station. A request of that size is taken if it is the only one."""
        self._link = link
        self._in_hand = in_hand
        self._address = address
        self._most = most
        self._notices = notices
        self._own = 0

    def start_forward(
        self,
        station_id: str,
        version: OcppVersion,
        payload: bytes,
        message_id: str,
        timeout: float,
        on_reply: Callable[[Reply | Exception], None],
    ) -> Forwarding:
        """As :meth:`~bridge.gateway.websocket.connection.Link.start_forward`."""
        size = len(payload)
        held = _Held(self, size, on_reply)
        if not self.take(size):
            held.size = 0
            held.told(self._busy(station_id, version, size))
            return held
        held.forwarding = self._link.start_forward(
            station_id,
            version,
            payload,
            message_id,
            timeout,
            held.told,
        )
        if held.on_reply is None:
            held.forwarding = None
        return held

    def take(self, size: int) -> bool:
        """Whether there is room for a request."""
        if self._own + size > self._most or not self._in_hand.take(self._address, size):
            return False
        self._own += size
        return True

    def give_back(self, size: int) -> None:
        """A request has ended."""
        self._own -= size
        self._in_hand.give_back(self._address, size)

    def _busy(self, station_id: str, version: OcppVersion | str, size: int) -> Reply:
        self._notices.held_back(BUSY, station=station_id, bytes=size)
        error = CallError(ErrorCode.GENERIC_ERROR, "Too much is in hand. Try again later.")
        return call_error(error, OcppVersion(version))


class _Held:
    """A request that has its bytes in hand until it ends."""

    __slots__ = ("_link", "forwarding", "on_reply", "size")

    def __init__(
        self, link: BoundedLink, size: int, on_reply: Callable[[Reply | Exception], None]
    ) -> None:
        self._link = link
        self.size = size
        self.on_reply: Callable[[Reply | Exception], None] | None = on_reply
        """None: it has ended."""
        self.forwarding: Forwarding | None = None

    def told(self, result: Reply | Exception) -> None:
        """The link has an answer, or there will be none."""
        on_reply = self.on_reply
        if on_reply is not None:
            self._over()
            on_reply(result)

    def abandon(self) -> None:
        """Nobody wants the answer any more. Does nothing if it is there."""
        forwarding = self.forwarding
        if self.on_reply is not None:
            self._over()
            if forwarding is not None:
                forwarding.abandon()

    def _over(self) -> None:
        self.on_reply = self.forwarding = None
        if self.size:
            self._link.give_back(self.size)
