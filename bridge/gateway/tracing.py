"""The span of a station's CALL in its gateway: from when it came to its answer."""

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from bridge.client.tracing import Asking, tell_answer
from bridge.dialects.dialect import Question
from bridge.gateway.forwarding import Forwarding
from bridge.request.outcome import Reply
from bridge.telemetry.tracing import Attributes, Kind, Tracing, class_of
from bridge.transport import Delivery, Publishing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

NAME: Final = "DataTransfer"
CANCELLED: Final = class_of(asyncio.CancelledError())


class TracedForwarding(Forwarding):
    """A forwarding within the span of its CALL. Within that, its question has a span as well."""

    __slots__ = ("_answer", "_asking", "_question", "_spans", "_tracing")

    def __init__(self, *parameters: Any, tracing: Tracing, asking: Asking) -> None:
        """`parameters`: of a :class:`~bridge.gateway.forwarding.Forwarding`."""
        super().__init__(*parameters)
        self._tracing = tracing
        self._asking = asking
        self._spans: list[Span] = []
        """Those that have not ended."""
        self._question: Question | None = None
        self._answer: Delivery | None = None

    def begin(self) -> None:
        attributes: Attributes = {
            "ocpp.action": NAME,
            "ocpp.station.id": self.station_id,
            "ocpp.version": self.version.value,
            "ocpp.vendor_id": self.vendor_id,
        }
        if self.message_id:
            attributes["ocpp.call.id"] = self.message_id
        self._begun(self._tracing.start(NAME, Kind.SERVER, attributes))
        super().begin()

    def _begun(self, span: "Span | None") -> None:
        if span is not None:
            self._spans.append(span)

    def ask(self) -> None:
        self._question = Question(self.station_id, super().publishing)
        with self._tracing.active(self._spans[0]) if self._spans else nullcontext():
            self._question, span = self._asking.begin(self._question)
        self._begun(span)
        super().ask()

    def publishing(self, correlation_id: str, reply_to: str) -> Publishing:
        if self._question is None:
            return super().publishing(correlation_id, reply_to)
        return self._question.publishing(correlation_id, reply_to)

    def answered(self, delivery: Delivery) -> None:
        self._answer = delivery
        super().answered(delivery)

    def end(self, result: Reply | Exception) -> None:
        self._end_spans(class_of(result) if isinstance(result, Exception) else "")
        super().end(result)

    def abandon(self) -> None:
        self._end_spans(CANCELLED)
        super().abandon()

    def _end_spans(self, failure: str) -> None:
        """End what has not ended. `failure`: the class of an error; empty: it has its answer."""
        spans, self._spans = self._spans, []
        tracing, answer = self._tracing, self._answer
        self._question = self._answer = None  # they hold this one

        def tell(span: "Span") -> None:
            if answer is None:
                tracing.fail(span, failure)
            else:
                tell_answer(tracing, span, answer)

        for span in reversed(spans):
            tracing.end(span, tell)
