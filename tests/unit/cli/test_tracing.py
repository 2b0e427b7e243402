"""Which exporters the environment of OpenTelemetry asks for, and what is said if one is missing."""

import threading
from typing import Any

import pytest
from opentelemetry import trace

from bridge.cli import tracing as module
from bridge.cli.tracing import exporters, tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, []),
        (ENDPOINT, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": " console, otlp,"}, ["console", "otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "none"} | ENDPOINT, []),
        ({"OTEL_TRACES_EXPORTER": "zipkin"} | ENDPOINT, ["zipkin"]),
        ({"OTEL_SDK_DISABLED": "TRUE"} | ENDPOINT, []),
        ({"OTEL_SDK_DISABLED": "false"} | ENDPOINT, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"} | ENDPOINT, ["otlp_proto_grpc"]),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x"}, []),
    ],
)
def test_the_environment_says_what_is_wanted(environment: dict[str, str], found: list[str]) -> None:
    assert exporters(environment) == found


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without a provider, and without variables of OpenTelemetry."""
    monkeypatch.setattr(module, "_provider_there", lambda: None)
    for name in ("OTEL_TRACES_EXPORTER", *ENDPOINT):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_nothing_asked_for_is_nothing_imported_and_nothing_said(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with tracing("t") as provider:
        assert provider is None
    assert not caplog.messages


@pytest.mark.parametrize(
    ("exporter", "told"),
    [
        ("otlp", "pip install 'datatransfer-bridge[otel]'"),
        ("zipkin", "install the package that brings it"),
    ],
)
def test_what_is_not_installed_is_said_once_with_what_to_install(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, exporter: str, told: str
) -> None:
    environment.setenv("OTEL_TRACES_EXPORTER", exporter)
    environment.setattr(module, "entry_points", lambda **_: ())
    with tracing("t") as provider:
        assert provider is None
    (line,) = caplog.messages
    assert told in line


class Slow:
    """A provider whose exporter hangs."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def shutdown(self) -> None:
        self.let_go.wait()


def test_the_end_is_bounded_in_time(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow()
    environment.setattr(module, "FLUSH", 0.05)
    environment.setattr(module, "_provider", lambda *_: (slow, True))
    with tracing("t"):
        pass
    assert "the last traces were not sent" in caplog.text
    slow.let_go.set()


def test_a_provider_that_is_there_is_used_and_not_shut_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Theirs:
        def force_flush(self) -> None:
            done.append("flushed")

        def shutdown(self) -> None:
            done.append("shut down")

    theirs: Any = Theirs()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: theirs)
    with tracing("t") as provider:
        assert provider is theirs
    assert done == ["flushed"]
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with tracing("t") as provider:
        assert provider is None


def test_what_the_environment_says_of_the_service_goes_before() -> None:
    def attributes(**environment: str) -> dict[str, Any]:
        return dict(module._resource("dtbridge", environment).attributes)

    assert attributes()["service.name"] == "dtbridge"
    assert attributes()["service.version"]
    assert attributes(OTEL_SERVICE_NAME="mine").get("service.name") != "dtbridge"
    said = attributes(OTEL_RESOURCE_ATTRIBUTES="service.name=mine,service.version=7")
    assert "dtbridge" not in said.values()
