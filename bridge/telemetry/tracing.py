"""Traces, by OpenTelemetry's API: what a span is called, where it belongs, and how it ended.

The API is imported when a :class:`Tracing` is made, and so only where tracing is turned on. Names
and attributes are those of the semantic conventions for messaging with RabbitMQ
(``docs/tracing.md``). A fault of whatever is behind the API costs a span, and never a request.
"""

import enum
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bridge.telemetry.exceptions import exc_info_of, exception_text
from bridge.telemetry.handled import trace_sources, valid_traceparent
from bridge.telemetry.logs import LogLevel, get_logger

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

log = get_logger("bridge.tracing")

Result = TypeVar("Result")

SCOPE: Final = "bridge"
"""The name of the instrumentation: that of the package."""
LONGEST: Final = 256
"""Characters of an attribute's value. Most come from stations and peers."""
TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"
_HEADERS: Final = (TRACE_PARENT, TRACE_STATE)
_STATE_LONGEST: Final = 512
"""Characters of a tracestate that are passed on (W3C Trace Context §3.3.1.5)."""

Attributes = dict[str, str | int | bool]


class Kind(enum.Enum):
    """The part of a span in an exchange of messages. The value is OpenTelemetry's name."""

    SERVER = "SERVER"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Tracing:
    """Makes spans."""

    def __init__(self, provider: "TracerProvider") -> None:
        """Raises ImportError if OpenTelemetry's API is not installed."""
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._attach = context.attach
        self._detach = context.detach
        self._nothing = context.Context()
        self._tracer = provider.get_tracer(SCOPE)
        self._propagator = TraceContextTextMapPropagator()
        self._told = False
        if current_trace_id not in trace_sources:
            trace_sources.append(current_trace_id)

    def start(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        *,
        headers: Mapping[str, Any] | None = None,
    ) -> "Span | None":
        """Begin a span.

        `headers`: of the message that it is about, whose sender's span is its parent, and linked;
        if they name none, it begins a trace. None: its parent is the span that is active. Returns
        None if something is wrong with what is behind the API.
        """
        try:
            parent = None if headers is None else self._sent_with(headers)
            links = []
            if parent:
                sent = self._trace.get_current_span(parent).get_span_context()
                links.append(self._trace.Link(sent))
            return self._tracer.start_span(
                name,
                context=parent,
                kind=self._trace.SpanKind[kind.value],
                attributes={key: _bounded(value) for key, value in attributes.items()},
                links=links,
            )
        except Exception as error:  # noqa: BLE001 - samplers and processors are the user's own
            self._complain(error)
            return None

    def _sent_with(self, headers: Mapping[str, Any]) -> "Context":
        parent = valid_traceparent(headers.get(TRACE_PARENT))
        if parent is None:
            return self._nothing
        carrier = {TRACE_PARENT: parent}
        state = headers.get(TRACE_STATE)
        if type(state) is str and len(state) <= _STATE_LONGEST:
            carrier[TRACE_STATE] = state
        return self._propagator.extract(carrier, self._nothing)

    def headers_with(self, span: "Span", headers: Mapping[str, Any] | None) -> dict[str, Any]:
        """The headers of a message that is a span's, with its trace in place of another."""
        kept = {key: value for key, value in (headers or {}).items() if key not in _HEADERS}
        if span.get_span_context().is_valid:
            self._propagator.inject(kept, self._trace.set_span_in_context(span, self._nothing))
            return kept
        return dict(headers or {})

    @contextmanager
    def active(self, span: "Span") -> "Iterator[None]":
        """Within, and in what is started within, the span is the parent of others."""
        token = self._attach(self._trace.set_span_in_context(span, self._nothing))
        try:
            yield
        finally:
            self._detach(token)

    def tell(self, span: "Span", attributes: Mapping[str, Any]) -> None:
        """Add to a span's attributes what is known. None: that is not."""
        for key, value in attributes.items():
            if value is not None:
                span.set_attribute(key, _bounded(value))

    def fail(self, span: "Span", kind: str, error: BaseException | None = None) -> None:
        """Note that it failed. `kind`: one of few: the class of an exception, or a code."""
        span.set_attribute("error.type", kind)
        span.set_status(self._trace.StatusCode.ERROR)
        if error is not None and span.is_recording():
            span.add_event(
                "exception",
                {
                    "exception.type": kind,
                    "exception.message": _bounded(_text_of(error)),
                    "exception.stacktrace": _encodable(exception_text(exc_info_of(error))),
                },
            )

    def end(self, span: "Span", tell: Callable[["Span"], None]) -> None:
        """End a span, after `tell` has added what became of it."""
        try:
            if span.is_recording():
                tell(span)
            span.end()
        except Exception as error:  # noqa: BLE001 - as in start
            self._complain(error)

    async def around(
        self,
        span: "Span",
        work: Callable[[], Awaitable[Result]],
        tell: Callable[["Span", Result], None],
    ) -> Result:
        """Await `work`, with the span active, and end the span with the result, or with its error.

        `tell`: adds what the result says.
        """
        try:
            with self.active(span):
                result = await work()
        except BaseException as error:
            kind = class_of(error)
            self.end(span, lambda span: self.fail(span, kind))
            raise
        self.end(span, lambda span: tell(span, result))
        return result

    def _complain(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            log.raised(
                LogLevel.WARNING, "a span could not be made, and others may be missing", error
            )


def current_trace_id() -> str | None:
    """The trace of the span that is active, as 32 hexadecimal digits."""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def destination(*parts: str) -> str:
    """A destination of RabbitMQ, from exchange, routing key and queue, as the conventions say."""
    return ":".join(dict.fromkeys(filter(None, parts))) or "amq.default"


def server(address: tuple[str, int] | None) -> Attributes:
    """Where the broker is."""
    return {} if address is None else {"server.address": address[0], "server.port": address[1]}


def class_of(error: BaseException) -> str:
    """The class of an exception by its full name: one of few."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _bounded(value: Any) -> Any:
    return _encodable(value[:LONGEST]) if isinstance(value, str) else value


def _encodable(text: str) -> str:
    """Without half surrogate pairs: Protobuf takes none."""
    return text.encode("utf-8", "replace").decode()


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - somebody else's class
        return ""
