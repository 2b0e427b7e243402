"""How one vendor's requests are spread over several queues.

A queue has one leader, and is as fast as that. A vendor that needs more has partitions: an exchange
that hashes the station (plugin rabbitmq_consistent_hash_exchange), and queues behind it. All
requests of a station come to the same queue::

    datatransfer ── key of the vendor ──→ Q:4 (x-consistent-hash) ──→ Q:4.0, Q:4.1, Q:4.2, Q:4.3

where Q is the vendor's own queue, ``datatransfer.<key>``. The names tell the number of partitions:
another number has other queues, so that the requests of one never mix with those of the other. A
vendor's key has no colon, so no other vendor has such a queue.

The vendor's own queue stays, and nothing is bound to it. It takes what is sent to it by name: dead
letters that are replayed, mostly. And it keeps workers apart that were given another number: its
arguments say the number, and the broker refuses to declare it with others (:data:`MARKER`).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from bridge.routing.router import PARTITIONS, Router

KIND: Final = "x-consistent-hash"
"""The type of the exchange. https://github.com/rabbitmq/rabbitmq-server, folder
``deps/rabbitmq_consistent_hash_exchange``."""
PLUGIN: Final = "rabbitmq_consistent_hash_exchange"
"""It is shipped with RabbitMQ, and not enabled by default."""
HASH_HEADER: Final = "hash-header"
"""The argument of the exchange that names the header which is hashed."""
WEIGHT: Final = "1"
"""The routing key of each partition's binding: all weigh the same."""
MARKER: Final = "x-dead-letter-routing-key"
"""The argument that says a vendor's partitions. The exchange of dead letters is a fanout, to which
the key does not matter. And of the arguments that a broker compares, no other may differ from queue
to queue without effect."""

_LABEL: Final = re.compile(r"([1-9][0-9]{0,3})(-ordered)?")
_PARTITION: Final = re.compile(r"(.+):([1-9][0-9]*(?:-ordered)?)\.([0-9]+)")
_EXCHANGE: Final = re.compile(r"(.+):([1-9][0-9]*(?:-ordered)?)")


class Partitions(msgspec.Struct, frozen=True):
    """How many queues a vendor has, and whether they keep the order of a station's requests."""

    count: int = 1
    ordered: bool = False

    @property
    def label(self) -> str:
        """As names tell it. Empty: one queue, in no order, which is the vendor's own."""
        if self.ordered:
            return f"{self.count}-ordered"
        return "" if self.count == 1 else str(self.count)

    def exchange(self, queue: str) -> str:
        """The exchange of the vendor whose own queue is `queue`."""
        return f"{queue}:{self.label}"

    def queues(self, queue: str) -> tuple[str, ...]:
        """The queues that its requests are routed to."""
        if not self.label:
            return (queue,)
        return tuple(f"{queue}:{self.label}.{number}" for number in range(self.count))

    def consumed(self, queue: str) -> tuple[str, ...]:
        """The queues that a worker consumes: the vendor's own as well."""
        return self.queues(queue) if not self.label else (queue, *self.queues(queue))


ONE_QUEUE: Final = Partitions()
"""What a vendor has that asks for nothing else."""


def of_label(label: str) -> Partitions | None:
    """The reverse of :attr:`Partitions.label`; None: it is none."""
    found = _LABEL.fullmatch(label)
    return None if found is None else Partitions(min(int(found[1]), PARTITIONS), bool(found[2]))


def own_queue(queue: str) -> str:
    """The vendor's own queue, of that or of one of its partitions."""
    found = _PARTITION.fullmatch(queue)
    return queue if found is None else found[1]


def label_of(queue: str) -> str:
    """Which partitions a queue is one of (:attr:`Partitions.label`); empty: of none."""
    found = _PARTITION.fullmatch(queue)
    return "" if found is None else found[2]


def exchange_label(exchange: str) -> tuple[str, str]:
    """The vendor's own queue and the label, of an exchange of partitions; else empty texts."""
    found = _EXCHANGE.fullmatch(exchange)
    return ("", "") if found is None else (found[1], found[2])


def partitions_of(routers: Iterable[Router]) -> dict[str, Partitions]:
    """By vendorId, of the routers that ask for more than one queue, or for order."""
    found = {each.vendor_id: Partitions(each.partitions, each.ordered) for each in routers}
    return {vendor_id: spread for vendor_id, spread in found.items() if spread.label}


def why_not_in(dialect: str, partitions: Mapping[str, Partitions]) -> str:
    """Why a dialect whose queues all vendors share has no partitions; a sentence."""
    return (
        f"partitions and order are for the native dialect: in {dialect} all vendors share queues, "
        f"so Router({next(iter(partitions))!r}) cannot have its own"
    )
