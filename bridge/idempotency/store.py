"""Where replies are kept for requests that come again: the protocol of a store."""

import enum
from collections.abc import Awaitable, Hashable
from typing import Final, Protocol

from bridge.request.outcome import Reply

Key = Hashable
"""OCPP version, station, OCPP message id and payload, as one value: for a store in this process 64 bits of SipHash under the process's secret,
which no two requests are to be expected to share; for one that processes share a text."""

TTL: Final = 600.0
"""Seconds a reply is kept at least. Longer than any station waits, and than a broker takes to deliver again."""


class Running(enum.Enum):
    """Answer of :meth:`Store.begin`: the request is being handled."""

    HERE = "here"
    """By this worker; its outcome comes to the same :class:`Once`."""
    ELSEWHERE = "elsewhere"
    """By another one."""


Begun = Reply | Running | None


class Store(Protocol):
    """Where replies are kept. Its methods are plain functions or, behind a network, coroutine functions: all or none.

    They may raise what they like: the request is handled anyway, and the failure counted.
    """

    def begin(self, key: Key) -> Begun | Awaitable[Begun]:
        """The stored reply; or who is handling the request; or None: nobody, so the caller does from now on."""

    def finish(self, key: Key, reply: Reply) -> Awaitable[None] | None:
        """Keep the reply."""

    def forget(self, key: Key) -> Awaitable[None] | None:
        """It has no reply and may be handled again."""
