"""The span of a question: a producer's, ``send``, from when it is asked to its answer.

Its trace goes along in the headers of the request.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from bridge.dialects.dialect import Question
from bridge.dialects.headers import OFFLINE_TYPE
from bridge.ocpp import ErrorCode
from bridge.ocpp.codes import canonical
from bridge.request.outcome import Kind as AnswerKind
from bridge.request.telling import status_of
from bridge.telemetry.tracing import Attributes, Kind, Tracing, destination, server
from bridge.transport import Delivery, Publishing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SEND: Final = "send"


class Asking:
    """Makes the spans of questions."""

    def __init__(self, tracing: Tracing, address: Callable[[], tuple[str, int] | None]) -> None:
        """`address`: of the broker."""
        self._tracing = tracing
        self._address = address

    async def ask(
        self, question: Question, ask: Callable[[Question], Awaitable[Delivery]]
    ) -> Delivery:
        """Ask a question within a span. Raises what `ask` raises."""
        asked, span = self.begin(question)
        if span is None:
            return await ask(question)
        return await self._tracing.around(
            span, lambda: ask(asked), lambda span, reply: tell_answer(self._tracing, span, reply)
        )

    def begin(self, question: Question) -> "tuple[Question, Span | None]":
        """The question as it is asked within a span, and that span, which the caller ends.

        None: there is none.
        """
        span = self._begin(question)
        if span is None:
            return question, None
        made = self._publishing(question, span)
        return msgspec.structs.replace(question, publishing=made), span

    def _begin(self, question: Question) -> "Span | None":
        looked_at = question.publishing(question.correlation_id or "", "")
        properties = looked_at.properties
        attributes: Attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": SEND,
            "messaging.operation.type": SEND,
            "messaging.destination.name": destination(looked_at.exchange, looked_at.routing_key),
            "messaging.destination.template": looked_at.exchange,
            "messaging.rabbitmq.destination.routing_key": looked_at.routing_key,
            "messaging.message.body.size": len(looked_at.body),
            "ocpp.station.id": question.station_id,
            **server(self._address()),
        }
        if properties.message_id:
            attributes["messaging.message.id"] = properties.message_id
        return self._tracing.start(f"{SEND} {looked_at.exchange}", Kind.PRODUCER, attributes)

    def _publishing(self, question: Question, span: "Span") -> Callable[[str, str], Publishing]:
        times = 0

        def publishing(correlation_id: str, reply_to: str) -> Publishing:
            nonlocal times
            times += 1
            made = question.publishing(correlation_id, reply_to)
            properties = made.properties
            told: Attributes = {
                "messaging.message.conversation_id": correlation_id,
                **server(self._address()),
            }
            if properties.message_id:
                told["messaging.message.id"] = properties.message_id
            self._tracing.tell(span, told)
            if times > 1:
                span.add_event("published again")
            headers = self._tracing.headers_with(span, properties.headers)
            return msgspec.structs.replace(
                made, properties=msgspec.structs.replace(properties, headers=headers)
            )

        return publishing


def tell_answer(tracing: Tracing, span: "Span", reply: Delivery) -> None:
    """Add to a span what an answer says."""
    if reply.properties.type == OFFLINE_TYPE:
        tracing.tell(span, {"ocpp.outcome": "offline"})
        tracing.fail(span, OFFLINE_TYPE)
        return
    status, code = status_of(reply.body)
    tracing.tell(span, {"ocpp.status": status, "ocpp.error_code": code})
    if reply.properties.type == AnswerKind.CALL_ERROR.value:
        tracing.tell(span, {"ocpp.outcome": "call_error"})
        known = canonical(code or "")
        tracing.fail(span, known.value if isinstance(known, ErrorCode) else "CallError")
    else:
        tracing.tell(span, {"ocpp.outcome": "response"})
