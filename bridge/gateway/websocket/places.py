"""How many connections there may be: in all, of one address, and in the opening handshake."""

import ipaddress
from typing import Final, Protocol

OPENING_MAX: Final = 1_000
"""Connections that may be in their opening handshake at a time, TLS included: each may hold 16 kB,
and some 50 kB of TLS. 10,000 stations that come back at once take their turns within seconds."""

TOO_MANY: Final = "too many connections"
TOO_MANY_OF_ONE: Final = "too many connections of its address"
TOO_MANY_OPENING: Final = "too many unfinished handshakes"


class Peer(Protocol):
    """A TCP connection."""

    def cut_off(self, reason: str) -> None:
        """End it at once."""


def address_of(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 address.

    Whoever has one IPv6 address has all of its /64. Other text stays as it is.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


class Places:
    """Who holds a place. A peer whose handshake lasts makes room for one that comes."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        # Half of few places stays for stations whose handshake is done.
        self._most_opening = max(1, min(OPENING_MAX, most // 2))
        self._addresses: dict[Peer, str] = {}
        self._numbers: dict[str, int] = {}
        self._opening: dict[str, dict[Peer, None]] = {}
        self._opening_number = 0

    def __len__(self) -> int:
        return len(self._addresses)

    def peers(self) -> list[Peer]:
        return list(self._addresses)

    def silent(self) -> list[Peer]:
        """Those whose request has not been read to its end."""
        return [peer for group in self._opening.values() for peer in group]

    def enter(self, peer: Peer, address: str) -> None:
        """A connection has opened. It is cut off if there is no place, or takes one of another."""
        self._addresses[peer] = address
        number = self._numbers[address] = self._numbers.get(address, 0) + 1
        self._opening.setdefault(address, {})[peer] = None
        self._opening_number += 1
        if len(self._addresses) > self._most:
            peer.cut_off(TOO_MANY)
        elif number > self._most_per_address:
            peer.cut_off(TOO_MANY_OF_ONE)
        elif self._opening_number > self._most_opening:
            # Of the address that has most of them, the oldest: a handshake takes a moment, and who
            # is silent has been so for longest.
            busiest = max(self._opening.values(), key=len)
            oldest = next(iter(busiest))
            self.has_asked(oldest)
            oldest.cut_off(TOO_MANY_OPENING)

    def has_asked(self, peer: Peer) -> None:
        """The peer's request has been read to its end, or it is being cut off."""
        address = self._addresses.get(peer)
        group = None if address is None else self._opening.get(address)
        if address is None or group is None or peer not in group:
            return
        del group[peer]
        self._opening_number -= 1
        if not group:
            del self._opening[address]

    def leave(self, peer: Peer) -> None:
        """The connection has ended. Does nothing the second time."""
        self.has_asked(peer)
        address = self._addresses.pop(peer, None)
        if address is None:
            return
        self._numbers[address] -= 1
        if not self._numbers[address]:
            del self._numbers[address]
