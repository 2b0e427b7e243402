"""What the dialects have in common whose gateway does not route by vendor: queues that all vendors share.

A request that waits for its next try goes back to its queue by the default exchange: through the gateway's own exchange it would reach
everybody else who listens there. So does a dead letter that is replayed.
"""

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from bridge.dialects.copies import properties_of_dead_letter, properties_of_next_try
from bridge.dialects.dialect import Dialect, GatewayExchange, SharedQueue
from bridge.dialects.headers import (
    ATTEMPT,
    DEADLINE,
    EXCHANGE,
    FIRST_TRY,
    REPLAYED,
    ROUTING_KEY,
    STATION_ID,
    VERSION,
)
from bridge.dialects.names import Names
from bridge.ocpp import OcppVersion
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Reply
from bridge.request.retry import milliseconds
from bridge.transport import Binding, Delivery, Properties, Publishing

SHORT_STRING: Final = 255
"""Bytes of a short string (AMQP 0-9-1 §4.2.5.3): of a property, or of a routing key."""


class DialectNames(Names, frozen=True):
    """Those of one dialect. The dead letters are the same for all dialects of a prefix.

    No vendor's queue can have these names: they begin with the prefix and a hyphen, the vendors' with the prefix and a dot.
    """

    dialect: str = ""

    @property
    def own(self) -> str:
        """How the names of this dialect begin."""
        return f"{self.prefix}-{self.dialect}"

    def retry(self, delay: float) -> str:
        """As :meth:`~bridge.dialects.names.Names.retry`."""
        return f"{self.own}.retry.{milliseconds(delay)}"

    @property
    def after_retry(self) -> str:
        """The default exchange: the routing key of a request that waits is the name of its queue."""
        return ""


class SharedDialect(Dialect):
    """A dialect without a queue for each vendor."""

    def __init__(
        self, names: DialectNames, exchange: GatewayExchange, queues: Sequence[SharedQueue]
    ) -> None:
        self.name = names.dialect
        self.names: Names = names
        self.exchange: GatewayExchange | None = exchange
        self.queues: Sequence[SharedQueue] = queues

    @abstractmethod
    def queue_of(self, delivery: Delivery) -> str:
        """The queue a delivery came from."""

    @property
    @abstractmethod
    def station_replies(self) -> Sequence[Binding]:
        """How a private queue is bound that takes the answers of stations to the CSMS, and more: whoever else asked is answered there, too."""

    @abstractmethod
    def station_request(
        self,
        *,
        station_id: str,
        version: OcppVersion,
        body: bytes,
        deadline: float,
        message_id: str,
    ) -> Publishing:
        """A request of the CSMS to a station. `deadline` in seconds of Unix time. Raises ValueError for what is no station's id.

        `message_id`: the OCPP message id, at most 36 characters; with it the answer comes back.
        """

    @abstractmethod
    def station_reply(self, delivery: Delivery) -> Delivery | None:
        """What comes to such a queue, as a reply of the native contract; its correlation_id is the OCPP message id.

        None: it is no answer to a DataTransfer, or cannot be read.
        """

    def again(self, request: Request, delay: float, *, counts: bool) -> Publishing:
        """As :meth:`~bridge.dialects.dialect.Dialect.again`: in the gateway's own form."""
        properties = properties_of_next_try(request, delay, counts=counts)
        source = request.source
        return Publishing(
            self.queue_of(source), source.body, properties, self.names.retry(delay), mandatory=True
        )

    def dead_letter(self, request: Request, failure: Failure, worker: str) -> Publishing:
        """As :meth:`~bridge.dialects.dialect.Dialect.dead_letter`: in the gateway's own form, to be replayed to its queue."""
        source = request.source
        queue = self.queue_of(source)
        told = {EXCHANGE: "", ROUTING_KEY: queue, VERSION: request.version.value}
        properties = properties_of_dead_letter(request, failure, worker, told)
        return Publishing(queue, source.body, properties, self.names.dead, mandatory=True)


def tries(headers: Mapping[str, Any]) -> tuple[int, float | None]:
    """Which try this is, from 1, and when the first was, in seconds of Unix time: if the bridge has had it before."""
    attempt = headers.get(ATTEMPT, 1)
    first_try = headers.get(FIRST_TRY)
    return (
        attempt if type(attempt) is int and attempt > 0 else 1,
        first_try / 1000 if type(first_try) is int else None,
    )


def is_replayed(headers: Mapping[str, Any]) -> bool:
    """Whether it is a dead letter at its next life: nobody waits for its answer any more."""
    return REPLAYED in headers


def deadline(
    headers: Mapping[str, Any], patience: float, sent: float | None = None
) -> float | None:
    """When nobody waits any more, in seconds of Unix time; None: nobody does, and nobody did.

    `patience`: seconds from when it was `sent`, if that is known and has passed, or from now. A request that was tried
    before carries its deadline.
    """
    if is_replayed(headers):
        return None
    known = headers.get(DEADLINE)
    if type(known) is int:
        return known / 1000
    now = time.time()
    return (now if sent is None else min(sent, now)) + patience


def fits(text: object) -> TypeGuard[str]:
    """Whether it is a text, not empty, that AMQP can carry as a property or routing key."""
    return type(text) is str and 0 < len(text.encode("utf-8", "surrogateescape")) <= SHORT_STRING


def native_reply(
    delivery: Delivery,
    station_id: str | None,
    version: OcppVersion | None,
    message_id: str,
    answer: Reply,
) -> Delivery:
    """A station's answer as the native contract would have it. `station_id` and `version` if they are known."""
    told = {STATION_ID: station_id, VERSION: None if version is None else version.value}
    headers = {name: value for name, value in told.items() if value is not None}
    properties = Properties(headers=headers, correlation_id=message_id, type=answer.kind.value)
    return Delivery(
        delivery.exchange, delivery.routing_key, delivery.redelivered, properties, answer.body
    )
