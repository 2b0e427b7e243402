"""The protocol that every dialect implements: what a gateway's messages on RabbitMQ mean.

The native dialect is the bridge's own wire contract, which ``docs/contract.md`` tells gateway
authors. The others are what other gateways write, without a change to them (``docs/dialects.md``).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from bridge.dialects.names import Names
from bridge.ocpp import OcppVersion
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind
from bridge.transport import Binding, Delivery, Publishing


class Foreign(Exception):
    """A message in a queue of ours that is not a request.

    It is not handled, but kept where somebody can look at it.
    """

    def __init__(self, reason: str, answer: Publishing | None = None) -> None:
        """`reason`: for logs and the dead letter. `answer`: for a sender who may wait for one."""
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class GatewayExchange(msgspec.Struct, frozen=True):
    """The exchange that a gateway of another dialect publishes to, as that gateway declares it."""

    name: str
    kind: str
    durable: bool


class SharedQueue(msgspec.Struct, frozen=True):
    """A queue with the requests of all vendors, for a gateway that does not route by vendor."""

    name: str
    binding: Binding
    message_ttl: float | None = None
    """Seconds after which nobody waits for what is still in it; None: the requests say when."""
    replicated: bool = True
    """False: a classic queue, whatever the others are."""


class Question(msgspec.Struct, frozen=True):
    """A request that somebody waits for: how it is published, and how its answer is known."""

    station_id: str
    """The station it is about. A reply that names another one is not the answer."""
    publishing: Callable[[str, str], Publishing]
    """Makes the message from a correlation id and a reply queue, with what is left of its time.
    Called each time the request is published."""
    once: bool = False
    """Never publish it twice, because whoever gets it would not absorb the repetition."""
    correlation_id: str | None = None
    """The correlation id that its answer has; None: the requester makes one."""


class Dialect(Protocol):
    """How a gateway writes on RabbitMQ."""

    name: str
    """For logs."""
    names: Names
    exchange: GatewayExchange | None
    """None: the bridge's own, as the wire contract has it."""
    queues: Sequence[SharedQueue]
    """The queues that all vendors share. Empty: each vendor has a queue."""

    # ---- to answer: a worker's half ----

    def request(self, delivery: Delivery) -> Request:
        """Read a delivery.

        Raises :class:`Foreign` for what is not a request. What is wrong with a request is named in
        its ``fault``.
        """

    def reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """The answer to a request; None if it may not be answered where it asks to be."""

    def why_not_answered(self, request: Request) -> tuple[str, str]:
        """Why :meth:`reply` gave None: the cause in short, and a sentence for the operator."""

    def again(self, request: Request, delay: float, *, counts: bool) -> Publishing:
        """The request on its way to its next try, `delay` seconds from now.

        `counts`: whether what came before counts as a try.
        """

    def dead_letter(self, request: Request, failure: Failure, worker: str) -> Publishing:
        """The request as it is kept when it is given up.

        Body and properties stay as they are. The story is told in headers. `worker`: who gives up.
        """

    # ---- to ask: a client's half ----

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
        """A station's request, as its gateway publishes it.

        `deadline`: seconds of Unix time. `message_id`: the OCPP message id; None: the correlation
        id. `connection_id`: names the station's connection; None: not said. Raises ValueError if a
        gateway of this dialect asks in a way of its own.
        """

    def station_version(self, given: OcppVersion | None) -> OcppVersion:
        """The OCPP version in which a request to a station is written.

        `given`: the station's version, if the caller knows it. Raises ValueError if it is not for
        the caller to say.
        """

    def question_to_station(
        self,
        *,
        station_id: str,
        version: OcppVersion,
        body: bytes,
        deadline: float,
        message_id: str | None,
    ) -> Question:
        """A request of the CSMS to a station. Parameters as in :meth:`question_to_csms`.

        Raises ValueError for a station id, or a message id, that the dialect cannot carry.
        """

    @property
    def station_replies(self) -> Sequence[Binding]:
        """How a private queue is bound to get the answers of stations.

        Such a queue gets the answers to everybody. Empty: they are published to the queue itself.
        """

    def read_station_reply(self, delivery: Delivery) -> Delivery | None:
        """What came to such a queue, as a reply of the native dialect.

        None: it is not an answer to a DataTransfer, or cannot be read.
        """
