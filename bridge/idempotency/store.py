"""Where replies are kept for requests that come again: the protocol of a store.

Its implementations stand beside it. :mod:`bridge.idempotency.guard` says what it is for.
"""

import enum
from collections.abc import Awaitable, Hashable
from typing import Final, Protocol

from bridge.request.outcome import Reply

Key = Hashable
"""OCPP version, station, OCPP message id, payload and origin of a request, as one value.

For a store in this process, 64 bits of SipHash under the secret of the process, which no two
requests are to be expected to share; for a store that processes share, a text."""

TTL: Final = 600.0
"""Seconds that a reply is kept at least: longer than any station waits, and longer than a broker
takes to deliver a request again."""


class Running(enum.Enum):
    """What :meth:`Store.begin` answers when the request is just being handled."""

    HERE = "here"
    """By this worker, whose guards will be told its outcome."""
    ELSEWHERE = "elsewhere"
    """By another worker."""


Begun = Reply | Running | None


class Store(Protocol):
    """Where replies are kept.

    Its methods are plain functions or, behind a network, coroutine functions: all of them or none.
    They may raise anything: the request is handled all the same, and the failure is counted.
    """

    def begin(self, key: Key) -> Begun | Awaitable[Begun]:
        """The stored reply, or who is handling the request; None: from now on the caller is."""

    def finish(self, key: Key, reply: Reply) -> Awaitable[None] | None:
        """Keep the reply of a request that was begun here."""

    def forget(self, key: Key) -> Awaitable[None] | None:
        """Forget a request that was begun here: it has no reply, and may be handled again."""
