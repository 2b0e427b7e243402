"""From a name to a socket: all addresses of a host get their chance.

As in RFC 8305 ("happy eyeballs"): while an address does not answer, the next one is tried beside
it, families by turns, and the first that answers is taken. asyncio offers this; uvloop does not.
"""

import asyncio
import itertools
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Final

NEXT_ADDRESS: Final = 0.25
"""Seconds until the next address is tried beside those that have not answered (RFC 8305 §8)."""

_Address = tuple[int, int, int, str, Any]
"""Family, type, protocol, canonical name and socket address, as of getaddrinfo."""


async def resolve(host: str, port: int) -> Sequence[_Address]:
    """The addresses of a name, in the order in which the system prefers them."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def connect_to(host: str, port: int) -> socket.socket:
    """A socket connected to the first address of `host` that answers.

    Raises OSError with the reason of each address. Whatever ends it, no other socket stays open.
    """
    found = await resolve(host, port)
    waiting = iter(_families_by_turns(found))
    attempts: dict[asyncio.Task[socket.socket], _Address] = {}
    failures: list[OSError] = []
    left = len(found)
    try:
        while left or attempts:
            if left:
                address = next(waiting)
                left -= 1
                attempts[asyncio.create_task(_connect(address))] = address
            done, _ = await asyncio.wait(
                attempts,
                timeout=NEXT_ADDRESS if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    del attempts[attempt]
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failures.append(_with_address(error, attempts.pop(attempt)))
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_close)
            attempt.cancel()
    if len(failures) == 1:
        raise failures[0]
    raise OSError("; ".join(str(failure) for failure in failures) or "the name has no address")


def _families_by_turns(addresses: Sequence[_Address]) -> Iterator[_Address]:
    """Beginning with the family of the first; within each, in the resolver's order."""
    families: dict[int, list[_Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    for turn in itertools.zip_longest(*families.values()):
        yield from (address for address in turn if address is not None)


async def _connect(address: _Address) -> socket.socket:
    family, kind, protocol, _, where = address
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(made, where)
    except BaseException:
        made.close()
        raise
    return made


def _with_address(error: OSError, address: _Address) -> OSError:
    """The error in words that name the address; asyncio and uvloop have different ones."""
    reason = str(error) if error.errno is None else os.strerror(error.errno)
    named = OSError(f"{reason} ({address[4][0]})")
    named.__cause__ = error
    return named


def _close(attempt: "asyncio.Task[socket.socket]") -> None:
    """A callback for an attempt that nobody waits for any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
