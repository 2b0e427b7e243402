"""A port on which several processes of one program listen, and no other program.

On Linux, the kernel shares connections out among all sockets that listen on a port, if each was
bound with SO_REUSEPORT and by the same user (socket(7)): by a hash of addresses and ports. A second
program with that option would join them without a word, and take away a part of the connections.
So the port is taken before by a socket that neither listens nor is given connections, in such a way
that nobody can do so by mistake.
"""

import contextlib
import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

TRIES: Final = 5
"""Free ports that are tried: another process may be faster to take one."""


class _Address(NamedTuple):
    family: int
    address: Any
    """As the family has it: host and port come first."""

    def at(self, port: int) -> Any:
        host, _, *rest = self.address
        return (host, port, *rest)


def can_be_shared() -> bool:
    """Whether this system shares connections out. Other systems have the option, and do not."""
    return sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")


@contextlib.contextmanager
def hold_port(host: str | None, port: int) -> Iterator[int]:
    """Within, the port is taken: only who binds with SO_REUSEPORT, as this user, may listen there.

    `host`: None is every interface. `port`: 0 is a free one. Returns the port. Raises OSError if
    somebody has it, or the host has no address here.
    """
    with ExitStack() as held:
        yield _hold_any(held, host) if port == 0 else _hold(held, host, port)


def _hold_any(held: ExitStack, host: str | None) -> int:
    for _ in range(TRIES - 1):
        try:
            return _hold(held, host, 0)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _hold(held, host, 0)


def _hold(held: ExitStack, host: str | None, port: int) -> int:
    """Take the port on each address of the host."""
    with ExitStack() as taken:
        for address in _addresses(host):
            # Whoever listens there, or has it taken in this way, shows up here. As a server does it
            # alone: connections that have just ended are no hindrance (SO_REUSEADDR).
            with _bound(address, port, socket.SO_REUSEADDR) as alone:
                alone.listen()
                port = alone.getsockname()[1]
            taken.enter_context(_shared(address, port))
        held.push(taken.pop_all())
    return port


def _shared(address: _Address, port: int) -> socket.socket:
    try:
        # Without SO_REUSEADDR, no socket without SO_REUSEPORT can be bound beside it.
        return _bound(address, port, socket.SO_REUSEPORT)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    # For a minute (TIME_WAIT), connections that a server alone has ended are in the way of that.
    # Until the first process listens, another one could be bound here; then no more.
    return _bound(address, port, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bound(address: _Address, port: int, *options: int) -> socket.socket:
    bound = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        if address.family == socket.AF_INET6:  # as the event loop has it: IPv4 has its own socket
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address.at(port))
    except BaseException:
        bound.close()
        raise
    return bound


def _addresses(host: str | None) -> list[_Address]:
    """Of a host. A family that the machine does not have is left out, as the event loop does."""
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = dict.fromkeys(_Address(family, address) for family, _, _, _, address in found)
    return [address for address in addresses if _exists(address.family)]


def _exists(family: int) -> bool:
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True
