"""The pages of the listener: ``/livez``, ``/readyz``, ``/metrics``, and what a supervisor asks."""

import http
from collections.abc import Mapping
from email.message import Message
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, make_wsgi_app

from bridge.telemetry.families import encode
from bridge.telemetry.health import Check, Health
from bridge.telemetry.http import Answer, Page
from bridge.telemetry.lines import to_json

LIVE: Final = "/livez"
READY: Final = "/readyz"
METRICS: Final = "/metrics"
FAMILIES: Final = "/families"
"""The metrics in a form of our own, for the supervisor of several processes."""


def pages(health: Health, registry: CollectorRegistry) -> Mapping[str, Page]:
    """What everybody may ask."""
    return {
        LIVE: check_page(health.live),
        READY: check_page(health.ready),
        METRICS: metrics_page(registry),
    }


def check_page(check: Check) -> Page:
    """The finding of a check as JSON: 200 if it is well, 503 if it is not."""

    def page(_query: str, _headers: Message) -> Answer:
        finding = check()
        status = http.HTTPStatus.OK if finding.ok else http.HTTPStatus.SERVICE_UNAVAILABLE
        body = to_json(msgspec.to_builtins(finding)) + "\n"
        return Answer(body.encode(), "application/json", status)

    return page


def metrics_page(registry: CollectorRegistry) -> Page:
    """The metrics in the form that the scraper asks for, as the library writes them."""
    application = make_wsgi_app(registry)

    def page(query: str, headers: Message) -> Answer:
        started: list[Any] = []
        asked = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": METRICS,
            "QUERY_STRING": query,
            "HTTP_ACCEPT": headers.get("Accept", ""),
            "HTTP_ACCEPT_ENCODING": headers.get("Accept-Encoding", ""),
        }
        body = b"".join(application(asked, lambda *told: started.extend(told)))
        status, told = started
        found = dict(told)
        return Answer(
            body,
            found.pop("Content-Type"),
            http.HTTPStatus(int(status.split()[0])),
            tuple(found.items()),
        )

    return page


def families_page(registry: CollectorRegistry) -> Page:
    """The metrics for a supervisor."""

    def page(_query: str, _headers: Message) -> Answer:
        return Answer(encode(registry), "application/msgpack")

    return page
