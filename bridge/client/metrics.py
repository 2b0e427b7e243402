"""The metrics of a client, for a registry of prometheus_client. ``docs/metrics.md`` lists them."""

from typing import Final

from bridge.client.client import Client
from bridge.telemetry.metrics import Collector, Family, Samples, fill_sessions, session_families

PREFIX: Final = "dtbridge_client"


class ClientCollector(Collector):
    """What a client has counted. Register it once for each registry, of one client a process.

    >>> REGISTRY.register(ClientCollector(client))
    """

    families = (
        Family(
            "dtbridge_client_requests_total",
            "counter",
            "Requests that have ended, by direction (to_csms, to_station) and outcome.",
            ("direction", "outcome"),
        ),
        Family(
            "dtbridge_client_answer_seconds",
            "histogram",
            "From a request to its answer, for those that had one.",
            ("direction",),
        ),
        Family("dtbridge_client_requests_outstanding", "gauge", "Requests without an answer."),
        Family(
            "dtbridge_client_late_replies_total",
            "counter",
            "Replies that nobody waited for any more.",
        ),
        *session_families(PREFIX),
    )

    def __init__(self, client: Client) -> None:
        self._client = client

    def fill(self, samples: Samples) -> None:
        client = self._client
        for tally in client.tallies:
            samples.numbers("dtbridge_client_requests_total", tally.counts, *tally.labels)
            samples.histogram("dtbridge_client_answer_seconds", tally.seconds, *tally.labels)
        samples.number("dtbridge_client_requests_outstanding", client.outstanding)
        samples.number("dtbridge_client_late_replies_total", client.late)
        fill_sessions(
            samples,
            PREFIX,
            client.sessions,
            state=client.state.value,
            returned=client.returned,
            refused=client.refused,
        )
