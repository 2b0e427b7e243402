"""The span of a request that is handled: from when its handling begins to its outcome.

A step of a chain, there only where tracing is turned on. The span is a consumer's, ``process``. It
is active while the handler runs, and its trace goes into the headers of the request: an answer, a
further try and a dead letter take it from there.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from bridge.ocpp import CallError, decode_request
from bridge.request.chain import Dispatch
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Offline, Outcome, RetryLater, Settle
from bridge.request.telling import answer_of, outcome_word, status_of
from bridge.telemetry.tracing import Attributes, Kind, Tracing, class_of, destination, server

if TYPE_CHECKING:
    from opentelemetry.trace import Span

PROCESS: Final = "process"


class Traced:
    """The step of a chain that makes spans, for the requests of one queue."""

    def __init__(
        self,
        tracing: Tracing,
        *,
        queue: str,
        target: str,
        address: Callable[[], tuple[str, int] | None],
    ) -> None:
        """`queue`: its name; empty: it has none that says anything.

        `target`: what the span is named after: it must be one of few. `address`: of the broker.
        """
        self.next: Dispatch
        """Where requests go: see :func:`~bridge.request.chain.chain`."""
        self.settle: Settle
        """Whom it tells each outcome."""
        self._tracing = tracing
        self._queue = queue
        self._target = target
        self._name = f"{PROCESS} {target}"
        self._address = address
        self._spans: dict[Request, Span] = {}

    def dispatch(self, request: Request) -> None:
        """Pass a request on within its span. Never raises."""
        span = self._begin(request)
        if span is None:
            self.next(request)
            return
        self._spans[request] = span
        with self._tracing.active(span):
            self.next(request)

    def settled(self, request: Request, outcome: Outcome) -> None:
        """End the span, and pass the outcome on."""
        span = self._spans.pop(request, None)
        if span is not None:
            self._tracing.end(span, lambda span: self._tell(span, request, outcome))
        self.settle(request, outcome)

    def _begin(self, request: Request) -> "Span | None":
        source = request.source
        properties = source.properties
        attributes: Attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": PROCESS,
            "messaging.operation.type": PROCESS,
            "messaging.destination.name": destination(
                source.exchange, source.routing_key, self._queue
            ),
            "messaging.destination.template": self._target,
            "messaging.message.body.size": len(request.body),
            "ocpp.station.id": request.station_id,
            "ocpp.version": request.version.value,
            "ocpp.attempt": request.attempt,
            **server(self._address()),
        }
        if source.routing_key:
            attributes["messaging.rabbitmq.destination.routing_key"] = source.routing_key
        if properties.message_id:
            attributes["messaging.message.id"] = properties.message_id
        if properties.correlation_id:
            attributes["messaging.message.conversation_id"] = properties.correlation_id
        tag = getattr(source, "tag", None)
        if type(tag) is int:
            attributes["messaging.rabbitmq.message.delivery_tag"] = tag
        span = self._tracing.start(
            self._name, Kind.CONSUMER, attributes, headers=properties.headers or {}
        )
        if span is not None:
            headers = self._tracing.headers_with(span, properties.headers)
            source.properties = msgspec.structs.replace(properties, headers=headers)
        return span

    def _tell(self, span: "Span", request: Request, outcome: Outcome) -> None:
        try:
            envelope = decode_request(request.body, request.version)
        except CallError:
            pass
        else:
            self._tracing.tell(
                span,
                {"ocpp.vendor_id": envelope.vendor_id, "ocpp.message_id": envelope.message},
            )
        status, code = status_of(answer_of(outcome))
        word = outcome_word(outcome)
        self._tracing.tell(
            span, {"ocpp.outcome": word, "ocpp.status": status, "ocpp.error_code": code}
        )
        match outcome:
            case Failure(raised=raised) | RetryLater(raised=raised) if raised is not None:
                self._tracing.fail(span, class_of(raised.error), raised.error)
            case Failure() | Offline():
                self._tracing.fail(span, word)
            case _:
                pass
