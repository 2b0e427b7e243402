"""The wire contract: names, and AMQP properties ↔ request. Pure; ``docs/contract.md`` tells gateway authors the same.

Request, gateway → bridge: exchange ``datatransfer``, routing key :func:`vendor_key` of the vendorId, body the OCPP payload.
Reply: default exchange, routing key the request's ``reply_to``, ``type`` tells a response from a CALLERROR.
CSMS → station: exchange ``datatransfer.stations``, routing key :func:`station_key` of the station; the gateway that holds it replies.

Gateways write in one :class:`Dialect` or another; the native one is :class:`bridge.dialects.native.Native`.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from bridge.dialects.names import Names
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind
from bridge.transport import Binding, Delivery, Publishing


class Foreign(Exception):
    """A message in a queue of ours that is no request: it is not handled, but kept where somebody can look at it."""

    def __init__(self, reason: str, answer: Publishing | None = None) -> None:
        """`reason`: for logs and the dead letter. `answer`: for whoever may wait all the same."""
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class GatewayExchange(msgspec.Struct, frozen=True):
    """The exchange that a gateway of another dialect publishes to, as that gateway declares it."""

    name: str
    kind: str
    durable: bool


class SharedQueue(msgspec.Struct, frozen=True):
    """A queue with the requests of all vendors, of a gateway that does not route by vendor."""

    name: str
    binding: Binding
    message_ttl: float | None = None
    """Seconds after which nobody waits for what is still in it; None: the requests say when."""
    replicated: bool = True
    """False: a classic queue, whatever the others are."""


class Dialect(Protocol):
    """How a gateway writes on RabbitMQ: what a delivery asks, and how its outcome is published."""

    name: str
    """For logs."""
    names: Names
    exchange: GatewayExchange | None
    """None: the bridge's own, of the wire contract."""
    queues: Sequence[SharedQueue]
    """None of them: there is a queue for each vendor."""

    def request(self, delivery: Delivery) -> Request:
        """Read a delivery. Raises :class:`Foreign`; what is wrong in a request is named in its ``fault``."""

    def reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """The answer to a request; None: it may not be answered where it asks to be."""

    def again(self, request: Request, delay: float, *, counts: bool) -> Publishing:
        """The request on its way to its next try, `delay` seconds from now. `counts`: the last one was a try."""

    def dead_letter(self, request: Request, failure: Failure, worker: str) -> Publishing:
        """The request as it is kept when it is given up: its body and properties untouched, the story in headers."""
