"""What a gateway's scrape says: who connects, who does not, and the CALLs both ways."""

import asyncio
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from bridge.gateway.websocket.certificates import Certificates
from bridge.gateway.websocket.metrics import GatewayCollector
from bridge.gateway.websocket.passwords import SharedPassword
from tests.integration.gateway_server import Running, refusal, running
from tests.integration.raw_station import PATIENCE, make_certificate

DAY = 86_400


def value(here: Running, name: str, **labels: str) -> float:
    registry = CollectorRegistry()
    registry.register(GatewayCollector(here.gateway))
    return registry.get_sample_value(name, labels) or 0.0


def calls(here: Running) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["direction"], sample.labels["action"], sample.labels["outcome"]): (
            sample.value
        )
        for metric in GatewayCollector(here.gateway).collect()
        for sample in metric.samples
        if sample.name == "dtbridge_gateway_calls_total"
    }


async def test_calls_of_stations_are_counted_by_action_and_how_they_ended() -> None:
    async with running() as here, here.station() as station:
        assert value(here, "dtbridge_gateway_stations") == 1
        await station.call("Heartbeat")
        await station.call("DataTransfer", {"vendorId": "v"})
        await station.call("Authorize", {"idTag": "1"})
        for number in range(20):
            await station.call(f"Invented{number}")
        assert calls(here) == {
            ("from_station", "Heartbeat", "response"): 1,
            ("from_station", "DataTransfer", "response"): 1,
            ("from_station", "Authorize", "call_error"): 1,
            ("from_station", "other", "call_error"): 20,
        }
        assert value(here, "dtbridge_gateway_forward_seconds_count") == 1
        assert value(here, "dtbridge_gateway_bytes_in_hand") == 0


async def test_bytes_in_hand_are_seen_while_the_bridge_works() -> None:
    async with running() as here, here.station() as station:
        here.link.goes_on.clear()
        asked = asyncio.create_task(station.call("DataTransfer", {"vendorId": "v"}))
        while not value(here, "dtbridge_gateway_bytes_in_hand"):
            await asyncio.sleep(0.001)
        here.link.goes_on.set()
        await asked
        assert value(here, "dtbridge_gateway_bytes_in_hand") == 0


async def test_a_station_that_goes_before_its_answer_is_counted_as_offline() -> None:
    async with running() as here:
        here.link.goes_on.clear()
        async with here.station() as station:
            asked = asyncio.create_task(station.call("DataTransfer", {"vendorId": "v"}))
            while not value(here, "dtbridge_gateway_bytes_in_hand"):
                await asyncio.sleep(0.001)
            asked.cancel()
        while not calls(here):
            await asyncio.sleep(0.001)
        assert calls(here) == {("from_station", "DataTransfer", "offline"): 1}


async def test_logins_and_refusals_are_counted() -> None:
    async with running(SharedPassword(b"secret")) as here:
        assert await refusal(here, "/CP001") == 401
        assert await refusal(here, "/") == 404
        async with here.station(password=b"secret"):
            assert value(here, "dtbridge_gateway_logins_total") == 1
            assert value(here, "dtbridge_gateway_connected_total") == 1
        for cause in ("wrong password, or none", "no station in the path"):
            assert value(here, "dtbridge_gateway_refused_total", cause=cause) == 1


async def test_a_gateway_measures_how_late_its_event_loop_is() -> None:
    async with running() as here:
        async with asyncio.timeout(PATIENCE):
            while not value(here, "dtbridge_gateway_event_loop_lag_seconds_count"):
                await asyncio.sleep(0.05)


async def test_the_end_of_the_certificate_is_told_with_tls_alone(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(cert, key)
    name = "dtbridge_gateway_certificate_expiry_time_seconds"
    async with running(tls=Certificates(cert, key)) as here:
        left = value(here, name) - time.time()
        assert DAY < left <= 2 * DAY  # as it was made
    async with running() as here:
        assert value(here, name) == 0
