"""What a worker's and a gateway's readiness is made of."""

from types import SimpleNamespace
from typing import Any

import pytest
import typer
from prometheus_client import CollectorRegistry

from bridge.cli.observing import broker_checks, observing_gateway, open_listener
from bridge.cli.probe import LIVE, READY, probe
from bridge.telemetry.clock import ClockWatch
from bridge.transport import State

CHECKS = ("connected", "consuming", "publishing")


@pytest.mark.parametrize(
    ("state", "well"),
    [
        (State.CONNECTING, {"publishing"}),
        (State.CONSUMING, {*CHECKS}),
        (State.BLOCKED, {"connected", "consuming"}),
        (State.DRAINING, {"connected", "publishing"}),
        (State.STOPPED, {"publishing"}),
    ],
)
def test_only_who_consumes_and_may_publish_is_ready(state: State, well: set[str]) -> None:
    worker: Any = SimpleNamespace(state=state, reason="because")
    findings = {name: check() for name, check in broker_checks(worker).items()}
    assert set(findings) == {*CHECKS}
    assert {name for name, finding in findings.items() if finding.ok} == well
    assert {finding.reason for finding in findings.values()} == {f"{state.value}: because"}


def test_without_an_address_nobody_listens() -> None:
    assert open_listener(None) is None


def test_an_address_that_is_taken_ends_the_command_in_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = open_listener("127.0.0.1:0")
    assert first is not None
    try:
        with pytest.raises(typer.Exit) as ended:
            open_listener(first.address)
    finally:
        first.close()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.startswith(f"dtbridge: cannot listen on {first.address}: ")


async def test_a_gateway_is_ready_when_stations_can_connect_and_the_broker_is_there() -> None:
    link: Any = SimpleNamespace(state=State.CONNECTING, reason="to the broker", transport=None)
    server: Any = SimpleNamespace(accepts=False, clock=ClockWatch())
    listener = open_listener("127.0.0.1:0")
    assert listener is not None
    async with observing_gateway(listener, link, server, 0.0, CollectorRegistry()):
        assert probe(listener.address, LIVE).ok
        assert probe(listener.address, READY).line == (
            "not ready: connected: connecting: to the broker"
        )
        link.state = State.CONSUMING
        assert "stations: they cannot connect" in probe(listener.address, READY).line
        server.accepts = True
        assert probe(listener.address, READY) == (True, "ready")
    assert not probe(listener.address, LIVE).ok
