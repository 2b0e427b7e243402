"""The metrics of the WebSocket gateway: ``docs/metrics.md`` lists them.

Needs the extra ``gateway``.

>>> registry = gateway_registry(gateway, link)        # all there is to say of a process
"""

from prometheus_client import CollectorRegistry

from bridge.gateway.link import GatewayLink
from bridge.gateway.metrics import LinkCollector
from bridge.gateway.websocket.certificates import Certificates
from bridge.gateway.websocket.server import Gateway
from bridge.telemetry.metrics import Collector, Family, Samples, registry


class GatewayCollector(Collector):
    """What a gateway has counted. Register it once for each registry, of one gateway a process."""

    families = (
        Family("dtbridge_gateway_stations", "gauge", "Stations connected."),
        Family(
            "dtbridge_gateway_connections",
            "gauge",
            "TCP connections, including those whose handshake is not finished.",
        ),
        Family(
            "dtbridge_gateway_connected_total",
            "counter",
            "Connections of stations that were let in.",
        ),
        Family(
            "dtbridge_gateway_replaced_total",
            "counter",
            "Connections that were replaced by a newer one of the same station.",
        ),
        Family(
            "dtbridge_gateway_logins_total",
            "counter",
            "Passwords that fitted. Those that did not are refused connections.",
        ),
        Family(
            "dtbridge_gateway_refused_total",
            "counter",
            "Connections that were not let in, by cause, in the words of the log.",
            ("cause",),
        ),
        Family(
            "dtbridge_gateway_cut_off_total",
            "counter",
            "Connections that were ended because the peer exceeded a limit, by cause.",
            ("cause",),
        ),
        Family(
            "dtbridge_gateway_held_back_total",
            "counter",
            "Requests of stations that were refused while their connection stayed, by cause.",
            ("cause",),
        ),
        Family(
            "dtbridge_gateway_slowed_total",
            "counter",
            "Times that a station was read later, because it had sent more than it may.",
        ),
        Family(
            "dtbridge_gateway_calls_total",
            "counter",
            "CALLs that have ended, by direction (from_station, to_station), action and outcome.",
            ("direction", "action", "outcome"),
        ),
        Family(
            "dtbridge_gateway_forward_seconds",
            "histogram",
            "From a station's DataTransfer to the bridge's answer.",
        ),
        Family(
            "dtbridge_gateway_call_seconds",
            "histogram",
            "From a CALL to a station to its answer.",
        ),
        Family(
            "dtbridge_gateway_late_answers_total",
            "counter",
            "Answers of stations that nobody waited for any more.",
        ),
        Family(
            "dtbridge_gateway_ignored_total",
            "counter",
            "Other messages of stations that need no answer.",
        ),
        Family(
            "dtbridge_gateway_bytes_in_hand",
            "gauge",
            "Bytes of stations' DataTransfers that wait for the bridge's answer.",
        ),
        Family(
            "dtbridge_gateway_certificate_expiry_time_seconds",
            "gauge",
            "When the certificate chain for stations that is in use expires, in seconds of Unix "
            "time.",
        ),
        Family(
            "dtbridge_gateway_event_loop_lag_seconds",
            "histogram",
            "How late the event loop was for a timer, looked at once a second.",
        ),
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def fill(self, samples: Samples) -> None:
        gateway = self._gateway
        counts, traffic, notices = gateway.counts, gateway.traffic, gateway.notices
        samples.number("dtbridge_gateway_stations", len(gateway.stations))
        samples.number("dtbridge_gateway_connections", gateway.connections)
        samples.number("dtbridge_gateway_connected_total", counts.connected)
        samples.number("dtbridge_gateway_replaced_total", counts.replaced)
        samples.number("dtbridge_gateway_logins_total", traffic.logins)
        samples.numbers("dtbridge_gateway_refused_total", notices.refusals)
        samples.numbers("dtbridge_gateway_cut_off_total", notices.cuts)
        samples.numbers("dtbridge_gateway_held_back_total", notices.holds)
        samples.number("dtbridge_gateway_slowed_total", counts.slowed)
        for labels, number in dict(traffic.calls).items():
            samples.number("dtbridge_gateway_calls_total", number, *labels)
        samples.histogram("dtbridge_gateway_forward_seconds", traffic.forwarded)
        samples.histogram("dtbridge_gateway_call_seconds", traffic.called)
        samples.number("dtbridge_gateway_late_answers_total", counts.late)
        samples.number("dtbridge_gateway_ignored_total", counts.ignored)
        samples.number("dtbridge_gateway_bytes_in_hand", gateway.in_hand.used)
        tls = gateway.settings.tls
        if isinstance(tls, Certificates) and (ends := tls.expires_at) is not None:
            samples.number("dtbridge_gateway_certificate_expiry_time_seconds", ends)
        samples.histogram("dtbridge_gateway_event_loop_lag_seconds", gateway.clock.lag)


def gateway_registry(gateway: Gateway, link: GatewayLink) -> CollectorRegistry:
    """A registry of a gateway, its link, of what runs and of its process."""
    return registry(GatewayCollector(gateway), LinkCollector(link))
