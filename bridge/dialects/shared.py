"""What the dialects have in common whose gateway does not route by vendor: shared queues.

A request whose pause is over goes back to its queue by the default exchange, and so does a dead
letter that is replayed. Through the gateway's own exchange it would reach everybody else who
listens there.
"""

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeGuard

from bridge.dialects.copies import properties_of_dead_letter, properties_of_next_try
from bridge.dialects.dialect import Dialect, GatewayExchange, Question, SharedQueue
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
from bridge.ocpp import DEFAULT_VERSION, OcppVersion
from bridge.ocpp.rpc import check_message_id
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Reply
from bridge.request.retry import milliseconds
from bridge.transport import Delivery, Properties, Publishing

SHORT_STRING: Final = 255
"""Bytes of a short string (AMQP 0-9-1 §4.2.5.3), such as a property or a routing key."""


class DialectNames(Names, frozen=True):
    """The names of one dialect. All dialects of a prefix have the same dead letters.

    No vendor's queue can have these names: they begin with the prefix and a hyphen, and the names
    of vendors' queues with the prefix and a dot.
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
        """The default exchange: a request that waits has the name of its queue as routing key."""
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

    @abstractmethod
    def station_request(
        self,
        message_id: str,
        reply_to: str = "",
        *,
        station_id: str,
        version: OcppVersion,
        body: bytes,
        deadline: float,
    ) -> Publishing:
        """A request of the CSMS to a station. `deadline`: seconds of Unix time.

        `message_id`: the OCPP message id, at most 36 characters; the answer comes back with it.
        `reply_to` has no place in it: all answers go to the gateway's exchange. Raises ValueError
        for a station id that the gateway cannot have.
        """

    def question_to_csms(
        self,
        *,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        deadline: float,
        message_id: str | None,
        connection_id: str | None = None,
    ) -> Question:
        """Raises ValueError: the gateway publishes the requests of its stations itself."""
        raise ValueError(
            f"requests of stations come from the gateway: {self.name} is for those to stations"
        )

    def station_version(self, given: OcppVersion | None) -> OcppVersion:
        """As :meth:`~Dialect.station_version`. The gateway passes on what it is given."""
        return DEFAULT_VERSION if given is None else given

    def question_to_station(
        self,
        *,
        station_id: str,
        version: OcppVersion,
        body: bytes,
        deadline: float,
        message_id: str | None,
    ) -> Question:
        """As :meth:`~Dialect.question_to_station`."""
        check_message_id(message_id)
        publishing = partial(
            self.station_request,
            station_id=station_id,
            version=version,
            body=body,
            deadline=deadline,
        )
        publishing(message_id or "")  # raises now, not when a connection is back
        return Question(station_id, publishing, once=True, correlation_id=message_id)

    def why_not_answered(self, request: Request) -> tuple[str, str]:
        """As :meth:`~Dialect.why_not_answered`."""
        return "station", f"a station of this name cannot be answered in the dialect {self.name}"

    def again(self, request: Request, delay: float, *, counts: bool) -> Publishing:
        """As :meth:`~Dialect.again`, in the gateway's own form."""
        properties = properties_of_next_try(request, delay, counts=counts)
        source = request.source
        return Publishing(
            self.queue_of(source), source.body, properties, self.names.retry(delay), mandatory=True
        )

    def dead_letter(self, request: Request, failure: Failure, worker: str) -> Publishing:
        """As :meth:`~Dialect.dead_letter`, in the gateway's own form."""
        source = request.source
        queue = self.queue_of(source)
        told = {EXCHANGE: "", ROUTING_KEY: queue, VERSION: request.version.value}
        properties = properties_of_dead_letter(request, failure, worker, told)
        return Publishing(queue, source.body, properties, self.names.dead, mandatory=True)


def tries(headers: Mapping[str, Any]) -> tuple[int, float | None]:
    """Which try this is, from 1, and when the first was.

    The time is in seconds of Unix time; None if the bridge has not had the request before.
    """
    attempt = headers.get(ATTEMPT, 1)
    first_try = headers.get(FIRST_TRY)
    return (
        attempt if type(attempt) is int and attempt > 0 else 1,
        first_try / 1000 if type(first_try) is int else None,
    )


def is_replayed(headers: Mapping[str, Any]) -> bool:
    """Whether it is a dead letter that is tried again: nobody waits for its answer any more."""
    return REPLAYED in headers


def deadline(
    headers: Mapping[str, Any], patience: float, sent: float | None = None
) -> float | None:
    """When nobody waits any more, in seconds of Unix time; None if nobody waits from the start.

    `patience`: seconds that somebody waits. They begin when the request was `sent` (seconds of Unix
    time), if that is known and has passed, or now. A request that was tried before carries its
    deadline.
    """
    if is_replayed(headers):
        return None
    known = headers.get(DEADLINE)
    if type(known) is int:
        return known / 1000
    now = time.time()
    return (now if sent is None else min(sent, now)) + patience


def fits(text: object) -> TypeGuard[str]:
    """Whether it is text, not empty, that AMQP can carry as a property or a routing key."""
    return type(text) is str and 0 < len(text.encode("utf-8", "surrogateescape")) <= SHORT_STRING


def native_reply(
    delivery: Delivery,
    station_id: str | None,
    version: OcppVersion | None,
    message_id: str,
    answer: Reply,
) -> Delivery:
    """A station's answer as the native dialect has it. `station_id`, `version`: None if unknown."""
    told = {STATION_ID: station_id, VERSION: None if version is None else version.value}
    headers = {name: value for name, value in told.items() if value is not None}
    properties = Properties(headers=headers, correlation_id=message_id, type=answer.kind.value)
    return Delivery(
        delivery.exchange, delivery.routing_key, delivery.redelivered, properties, answer.body
    )
