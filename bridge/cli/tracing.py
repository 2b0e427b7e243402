"""Traces of a command, where the environment of OpenTelemetry asks for them.

The variables are OpenTelemetry's own (``OTEL_…``), and the SDK reads most of them. What is set up
here is what ``opentelemetry-instrument`` would: a provider, as the global one, so that spans of the
vendors' modules go the same way.
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any, Final

from bridge.telemetry.logs import get_logger

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

log = get_logger("bridge.cli")

FLUSH: Final = 2.0
"""Seconds at the end of a command for spans that are not sent yet. A worker has four, its farewell
to the broker included (:data:`~bridge.cli.process.FAREWELL`)."""

_GROUP: Final = "opentelemetry_traces_exporter"
"""The entry points by which OpenTelemetry finds exporters."""
_OTLP: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_INSTALL: Final = {
    "otlp_proto_http": "pip install 'datatransfer-bridge[otel]'",
    "otlp_proto_grpc": "pip install opentelemetry-exporter-otlp-proto-grpc, or leave"
    " OTEL_EXPORTER_OTLP_PROTOCOL at http/protobuf",
    "console": "pip install 'datatransfer-bridge[otel]'",
}


@contextlib.contextmanager
def tracing(service: str) -> Iterator["TracerProvider | None"]:
    """Within, what makes spans; None if nobody asks for them. At the end they are sent.

    `service`: the name of the service, unless the environment has one.
    """
    provider, is_own = _provider(service, os.environ)
    try:
        yield provider
    finally:
        if provider is not None:
            _send_the_rest(provider, is_own=is_own)


def exporters(environment: Mapping[str, str]) -> list[str]:
    """The exporters that are asked for, by the names of their entry points; empty: none."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = environment.get("OTEL_TRACES_EXPORTER", "")
    names = [name for each in named.split(",") if (name := each.strip().lower())]
    if not names and any(
        environment.get(f"OTEL_EXPORTER_OTLP_{which}ENDPOINT") for which in ("", "TRACES_")
    ):
        names = ["otlp"]
    protocol = (
        environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    found = [_OTLP.get(protocol, protocol) if name == "otlp" else name for name in names]
    return [] if "none" in found else list(dict.fromkeys(found))


def _provider(service: str, environment: Mapping[str, str]) -> tuple["TracerProvider | None", bool]:
    """The provider, and whether it was made here."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None, False
    there = _provider_there()
    if there is not None:
        return there, False
    wanted = exporters(environment)
    made = [exporter for name in wanted if (exporter := _exporter(name)) is not None]
    if not made:
        return None, False
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=_resource(service, environment), shutdown_on_exit=False)
    for exporter in made:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    log.info("requests are traced", exporters=wanted)
    return provider, True


def _provider_there() -> "TracerProvider | None":
    """The one that a module of a vendor, or ``opentelemetry-instrument``, has set up."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider: TracerProvider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def _exporter(name: str) -> Any:
    """The exporter of that name; None if it cannot be had, which is told."""
    hint = _INSTALL.get(name, "install the package that brings it, or set OTEL_TRACES_EXPORTER")
    try:
        import opentelemetry.sdk.trace  # noqa: F401 - the exporters of others need it

        for entry in entry_points(group=_GROUP, name=name):
            return entry.load()()
    except ImportError:
        pass
    except Exception as error:  # noqa: BLE001 - an exporter and its settings are anybody's
        reason = f"{type(error).__name__}: {error}"
        log.warning("requests are not traced", exporter=name, reason=reason)
        return None
    log.warning("requests are not traced", exporter=name, reason="it is not installed", hint=hint)
    return None


def _resource(service: str, environment: Mapping[str, str]) -> Any:
    """What the spans are of. What the environment says of it goes before."""
    from opentelemetry.sdk.resources import Resource

    attributes = {
        "service.name": service,
        "service.version": version("datatransfer-bridge"),
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    said = environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    given = {part.partition("=")[0].strip() for part in said.split(",")}
    if environment.get("OTEL_SERVICE_NAME"):
        given.add("service.name")
    return Resource.create({key: value for key, value in attributes.items() if key not in given})


def _send_the_rest(provider: "TracerProvider", *, is_own: bool) -> None:
    """Send what has gathered, for :data:`FLUSH` seconds at most."""

    def send() -> None:
        with contextlib.suppress(Exception):  # an exporter's
            name = "shutdown" if is_own else "force_flush"
            getattr(provider, name, lambda: None)()

    thread = threading.Thread(target=send, name="traces", daemon=True)
    thread.start()
    thread.join(FLUSH)
    if thread.is_alive():
        log.warning("the last traces were not sent", within_s=FLUSH)
