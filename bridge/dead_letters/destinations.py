"""Where dead letters may go back to.

Part of a dead letter's story may come from whoever sent the request: RabbitMQ up to 3.13 goes on
writing an ``x-death`` that it was given. A replay publishes with the rights of the person who runs
it, so what a letter says of its origin is a proposal, and this is what it is held against.
"""

from functools import cached_property
from typing import Final

from bridge.dead_letters.letter import DeadLetter
from bridge.dialects import CitrineOs, WebOcpp
from bridge.dialects.names import Names
from bridge.dialects.partitions import own_queue

DEFAULT_EXCHANGE: Final = ""
"""It takes a message to the queue that the routing key names, whosever that is."""


class Destinations:
    """The bridge's exchange of requests and its queues of requests, and what is allowed besides."""

    def __init__(self, names: Names | None = None, exchanges: frozenset[str] = frozenset()) -> None:
        """`exchanges`: further exchanges, allowed by name. The default one cannot be."""
        self._names = names or Names()
        self._exchanges = (exchanges | {self._names.requests}) - {DEFAULT_EXCHANGE}

    def allow(self, letter: DeadLetter) -> bool:
        """Whether a replay may publish it to where it says it came from.

        By name it may go to the queues of its own vendor, to that of unknown vendors, and to those
        that a dialect's vendors share: a reply queue, a delay queue or a stranger's is none.
        """
        if letter.exchange != DEFAULT_EXCHANGE:
            return letter.exchange in self._exchanges
        queue = letter.routing_key
        own = self._names.vendor_queue(letter.vendor)
        return queue in self._shared_queues or own_queue(queue) == own

    @cached_property
    def _shared_queues(self) -> frozenset[str]:
        prefix = self._names.prefix
        dialects = (WebOcpp(prefix), CitrineOs(prefix))
        shared = {queue.name for dialect in dialects for queue in dialect.queues}
        return frozenset(shared | {self._names.unknown_vendor})


def describe(letter: DeadLetter) -> str:
    """Where a dead letter goes back to, in words; empty if it does not say."""
    if not letter.replayable:
        return ""
    if letter.exchange == DEFAULT_EXCHANGE:
        return f"queue {letter.routing_key}"
    return f"exchange {letter.exchange}, key {letter.routing_key}"
