"""The seam between the bridge and a message broker.

Everything above this file (worker, client, dispatch) speaks in these values and knows no broker.
Everything below it (``bridge.rabbitmq`` for RabbitMQ, ``bridge.testing`` in memory) keeps these
promises:

* A :class:`Subscription` is consumed from the moment :meth:`Transport.start` returns until
  :meth:`Transport.drain`, across any number of lost connections. Each message arrives as one call
  of ``on_delivery``, on the event loop, in the order of its queue. The call must not block and must
  not raise.
* No more than ``prefetch`` deliveries of one queue are unsettled at any time.
* :meth:`Delivery.settle` is called once per delivery. Its publishings are sent first, and only when
  the broker has confirmed them is the verdict given: a request is never acknowledged before its
  reply is safe. If the broker refuses one, or no queue takes the copy, the delivery is requeued
  instead, after a pause.
* A delivery that is settled may forget its properties and its body, because thousands of them wait
  for a confirm.
* A publishing that the broker will never take costs itself alone. If it is the reply to a
  delivery, the subscription's ``on_impossible`` is told; if it is a copy, the delivery is rejected.
* A connection that ends makes its deliveries void: settling them does nothing, and the broker
  delivers them again.
* :meth:`Transport.publish` reports exactly one :class:`Confirm` for each publishing.
* :meth:`Transport.emit` never delays anything else and never ends a connection that others use:
  what cannot be sent at once is dropped. Nobody is told what becomes of the rest.
* A subscription with a `pause_key` is not consumed while the broker has that key as paused, in this
  connection and in later ones. What has been delivered stays in hand, to be settled as ever.
* A subscription without a queue's name has private queues. The broker names them anew for each
  connection, nobody else can consume from them, and they are gone with the connection, messages
  included. One such subscription may be for replies. Another may name an exchange: it takes what is
  published there with the keys given to :meth:`Transport.bind`. These are bound again in each later
  connection, and only when all of them are does the transport count as CONSUMING; replies come, and
  publishings go, before that. Of several calls for one key the last counts.

Callbacks and values, no await per message: so the fast path is fast, and the in-memory twin simple.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

HeaderValue = Any
"""A field-table value (AMQP 0-9-1 §4.2.5.5): None, str, bytes, bool, int, float, Decimal, datetime,
or a list or dict of these."""


class TransportError(Exception):
    """The broker cannot be used. The message is one sentence for whoever runs the process."""


class BrokerUnreachable(TransportError):
    """No broker of the list could be reached, or none let us in."""


class TopologyError(TransportError):
    """An exchange or queue is missing, or is not what the wire contract needs."""


class Properties(msgspec.Struct, omit_defaults=True, gc=False):
    """The basic properties of a message (AMQP 0-9-1 §4.2.6.1), in wire order.

    None: the property is absent.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, HeaderValue] | None = None
    delivery_mode: int | None = None
    """1 transient, 2 persistent."""
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    """Milliseconds, as decimal digits."""
    message_id: str | None = None
    timestamp: int | None = None
    """Unix time in seconds."""
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None


class Publishing(msgspec.Struct, omit_defaults=True, gc=False):
    """A message to be sent."""

    routing_key: str
    body: bytes
    properties: Properties
    exchange: str = ""
    mandatory: bool = False
    """Report :attr:`Confirm.RETURNED` if no queue takes it, instead of confirming the loss."""
    correlation_id: str | None = None
    """In place of the properties' own. A publishing that has it shares its properties with others,
    which differ in this field and the next alone. A transport may encode them once for all, so
    nobody may change them."""
    expiration: str | None = None
    """In place of the properties' own, likewise."""


class Confirm(enum.Enum):
    """What became of a publishing."""

    CONFIRMED = "confirmed"
    """The broker has it: on disk if persistent and durable, on a majority of nodes in a quorum
    queue."""
    RETURNED = "returned"
    """Mandatory, and no queue took it."""
    REFUSED = "refused"
    """The broker said no: a full queue with overflow reject-publish, or an internal error."""
    IMPOSSIBLE = "impossible"
    """The broker will never take it, because of something about it: its size, mostly."""
    LOST = "lost"
    """The connection ended first: the broker may have it or not."""


class Verdict(enum.Enum):
    """What the broker is to do with a delivery."""

    ACK = "ack"
    """Done; forget it."""
    REJECT = "reject"
    """Cannot be handled; give it to the queue's dead-letter exchange."""
    REQUEUE = "requeue"
    """Deliver it again."""
    LEAVE = "leave"
    """Of a subscription in order, when no more is begun: it goes back to its place when the
    subscription ends."""


class Delivery(msgspec.Struct, eq=False, gc=False):
    """A message received. Transports subclass it with what they need to settle it."""

    exchange: str
    routing_key: str
    redelivered: bool
    properties: Properties
    body: bytes

    def settle(
        self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
    ) -> None:
        """Send `copy`, await its confirm; send `reply`, await its confirm; then give the verdict.

        `copy` is the request itself on its way elsewhere, to be tried again or kept as a dead
        letter: it must arrive. A reply need not, if its queue is gone. Call it once per delivery; a
        void delivery ignores it. Raises ValueError for a publishing that the transport cannot
        carry, and the delivery can then still be settled.
        """
        raise NotImplementedError  # each transport has its own


class Binding(msgspec.Struct, frozen=True):
    """How an exchange finds a queue: by routing key, or in a headers exchange by headers."""

    exchange: str
    routing_key: str = ""
    arguments: dict[str, HeaderValue] | None = None


class Subscription(msgspec.Struct, eq=False):
    """A queue to consume from, or private ones."""

    queue: str
    """Its name. Empty: private queues, named by the broker anew for each connection and gone with
    it."""
    prefetch: int
    """The most unsettled deliveries of a queue at a time. 0: no bound."""
    on_delivery: Callable[[Delivery], None]
    on_impossible: Callable[[Delivery, str], None] | None = None
    """Called with a delivery and the reason if the broker will never take its reply. The delivery
    is whole, and can then be settled once more. None: it is settled without a reply."""
    no_ack: bool = False
    """The broker forgets a message as it sends it. For replies, which nobody else could use."""
    waits: bool = False
    """A queue of requests that wait for their next try. Its deliveries stay unsettled for long, so
    they are kept apart from others, whose acknowledgements they would hold up. That it does not
    exist is no error."""
    bindings: Sequence[Binding] = ()
    """Of a private queue: what comes to it besides what is published to its name."""
    exchange: str = ""
    """Of private queues: the exchange they are bound to, by the keys of :meth:`Transport.bind`.
    Empty: they are for replies."""
    queues: int = 1
    """How many private queues share the keys. A broker may delete a queue's bindings all in one
    step, which holds up everybody else's: many keys want many queues. A transport without such a
    broker may have fewer."""
    max_length: int = 0
    """Of private queues: messages that wait in one at most; beyond it the oldest go. 0: no
    bound."""
    pause_key: str = ""
    """One of those given to :meth:`Transport.watch_pauses`. Empty: it is never paused."""
    in_order: bool = False
    """A queue that gives its messages to one consumer at a time. It is not cancelled while a
    delivery is unsettled: :meth:`Transport.drain` ends the subscription when all are that were not
    left (:attr:`Verdict.LEAVE`), and only then does another consumer get what is left."""
    priority: int = 0
    """A consumer of a higher one is given messages first, as long as its prefetch allows
    (``x-priority``)."""


class State(enum.Enum):
    """Where a transport stands. It is ready in CONSUMING alone."""

    CONNECTING = "connecting"
    CONSUMING = "consuming"
    BLOCKED = "blocked"
    """The broker has a memory or disk alarm and takes no publishings. Deliveries wait."""
    DRAINING = "draining"
    STOPPED = "stopped"


StateListener = Callable[[State, str], None]
"""Called at every change of state with its reason, a clause for the log."""


class Transport(Protocol):
    """A broker, as worker and client see it. The top of this module says what it promises."""

    @property
    def state(self) -> State: ...

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the broker that it is connected to; None: it has none, or no network."""

    @property
    def returned(self) -> int:
        """Mandatory publishings that no queue took, since the start."""

    @property
    def refused(self) -> int:
        """Publishings that the broker refused, since the start."""

    @property
    def reply_queue(self) -> str | None:
        """The broker's name for the private reply queue, while connected."""

    def bind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        """Have the subscription that names an exchange take what is published there with this key.

        Until :meth:`unbind`. `on_done` is called once, when the broker has done it; while no
        connection is open, that is when the next one consumes, or sooner if the key is unbound or
        bound anew meanwhile. Once draining has begun it is called at once, and nothing is done.
        Raises ValueError for a key above 255 bytes.
        """

    def unbind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        """Take back :meth:`bind`.

        `on_done` is called once, when the broker has done it; at once while no connection is open,
        because then nothing is bound. Raises ValueError as :meth:`bind` does.
        """

    def time_confirms(self, observe: Callable[[float], None]) -> None:
        """Call `observe` with the seconds that a publishing has waited for its confirm.

        Not with those of each: one at a time is timed. Call it before :meth:`start`.
        """

    def watch_pauses(self, keys: Sequence[str], on_pause: Callable[[str, bool], None]) -> None:
        """Look at the broker, again and again, which of these keys are paused.

        `on_pause` is called with a key when it is paused (True) or is not any more (False), on the
        event loop, and must not raise. It is called when no more deliveries of its subscriptions
        come, and before they come again. A key is not paused until it was called. Call it before
        :meth:`start`. Where the topology has nothing to tell it by, nothing is ever paused.
        """

    def lacks(self, exchange: str) -> bool:
        """Whether the broker is known to have no such exchange.

        Publishing there would end the connection.
        """

    async def start(self, subscriptions: Sequence[Subscription], on_state: StateListener) -> None:
        """Connect and consume. Raises :class:`BrokerUnreachable` or :class:`TopologyError`."""

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        """Send it. `on_confirm` is called once; at once with LOST while no connection is open.

        Raises ValueError for what the transport cannot carry.
        """

    def emit(self, publishing: Publishing) -> bool:
        """Send it if nothing is delayed by that, and forget it. Never raises.

        Returns whether it was sent. It is dropped while no connection is open, while the broker
        takes none or takes them slowly, and if its exchange is missing or it cannot be carried; if
        much is dropped, the transport says so once. What is sent is not confirmed: it may be lost.
        """

    async def drain(self, timeout: float) -> int:
        """Stop consuming, and wait at most `timeout` seconds until every delivery is settled.

        Returns how many are not. Replies still come until :meth:`close`. Private queues that are
        bound are deleted, so that what is published to their keys is returned to whoever sent it.
        """

    async def close(self) -> None:
        """End the connection, after what was published before.

        Deliveries that are not settled go back to their queue.
        """
