"""The metrics of a gateway, for a registry of prometheus_client. ``docs/metrics.md`` lists them.

:class:`LinkCollector` is for every gateway in Python; the WebSocket gateway has a collector of its
own beside it (:mod:`bridge.gateway.websocket.metrics`).
"""

from typing import Final

from bridge.gateway.link import GatewayLink
from bridge.telemetry.metrics import Collector, Family, Samples, fill_sessions, session_families

PREFIX: Final = "dtbridge_link"


class LinkCollector(Collector):
    """What a :class:`~bridge.gateway.GatewayLink` has counted, in both directions.

    Register it once for each registry, of one link a process.

    >>> REGISTRY.register(LinkCollector(link))
    """

    families = (
        Family(
            "dtbridge_link_requests_total",
            "counter",
            "Requests that have ended, by direction (to_csms, to_station) and outcome.",
            ("direction", "outcome"),
        ),
        Family(
            "dtbridge_link_answer_seconds",
            "histogram",
            "From a request to its answer, for those that had one.",
            ("direction",),
        ),
        Family(
            "dtbridge_link_requests_in_hand",
            "gauge",
            "Requests without an answer.",
            ("direction",),
        ),
        Family("dtbridge_link_stations", "gauge", "Stations connected."),
        Family(
            "dtbridge_link_answers_unsent_total",
            "counter",
            "Answers to the CSMS that did not arrive: forbidden (reply_to) or unroutable.",
            ("cause",),
        ),
        Family(
            "dtbridge_link_late_replies_total",
            "counter",
            "Replies to requests of stations that nobody waited for any more.",
        ),
        *session_families(PREFIX),
    )

    def __init__(self, link: GatewayLink) -> None:
        self._link = link

    def fill(self, samples: Samples) -> None:
        link = self._link
        for tally in link.tallies:
            samples.numbers("dtbridge_link_requests_total", tally.counts, *tally.labels)
            samples.histogram("dtbridge_link_answer_seconds", tally.seconds, *tally.labels)
        samples.number("dtbridge_link_requests_in_hand", link.outstanding, "to_csms")
        samples.number("dtbridge_link_requests_in_hand", link.in_hand, "to_station")
        samples.number("dtbridge_link_stations", link.stations)
        samples.number("dtbridge_link_answers_unsent_total", link.counts.forbidden, "forbidden")
        samples.number("dtbridge_link_answers_unsent_total", link.counts.unroutable, "unroutable")
        samples.number("dtbridge_link_late_replies_total", link.late)
        fill_sessions(
            samples,
            PREFIX,
            link.sessions,
            state=link.state.value,
            returned=link.returned,
            refused=link.refused,
        )
