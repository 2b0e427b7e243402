"""send-to-station, as a person uses it: through a gateway that is a process, on a real RabbitMQ."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.acceptance.command import MODULE, SCRIPT, dtbridge
from tests.integration.gateways import GatewayProcess


@pytest.fixture
async def gateway(amqp_url: str) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(amqp_url, "here") as gateway:
        await gateway.do("connect", ["CP1", "CP 2/é"])
        yield gateway


async def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """While the gateway goes on."""
    return await asyncio.to_thread(dtbridge, "send-to-station", *arguments, **options)


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize("command", [MODULE, SCRIPT])
async def test_it_prints_the_stations_answer_as_json(amqp_url: str, command: list[str]) -> None:
    data = '{"n":123456789012345678901,"N":null}'
    arguments = [
        "--station",
        "CP 2/é",
        "--vendor",
        "com.acme",
        "--message",
        "ShowText",
        "--data",
        data,
    ]
    done = await run(*arguments, "--amqp-url", amqp_url, command=command)
    assert (done.returncode, done.stderr) == (0, "")
    answer = {
        "status": "Accepted",
        "data": ["CP 2/é", "here", {"n": 123456789012345678901, "N": None}],
    }
    assert json.loads(done.stdout) == answer


@pytest.mark.usefixtures("gateway")
async def test_it_takes_everything_from_the_environment(amqp_url: str) -> None:
    settings = {
        "DTBRIDGE_AMQP_URL": amqp_url,
        "DTBRIDGE_STATION": "CP1",
        "DTBRIDGE_VENDOR": "com.acme",
        "DTBRIDGE_MESSAGE": "ShowText",
        "DTBRIDGE_DATA": '"abc"',
        "DTBRIDGE_TIMEOUT": "10",
    }
    done = await run(settings=settings)
    assert json.loads(done.stdout)["data"] == ["CP1", "here", "abc"]


@pytest.mark.usefixtures("gateway")
async def test_it_ends_with_3_for_a_callerror_and_prints_it(amqp_url: str) -> None:
    done = await run(
        "--station", "CP1", "--vendor", "v", "--message", "refuse", "--amqp-url", amqp_url
    )
    assert (done.returncode, done.stderr) == (3, "")
    error = {
        "errorCode": "SecurityError",
        "errorDescription": "not you",
        "errorDetails": {"why": 1},
    }
    assert json.loads(done.stdout) == error


@pytest.mark.usefixtures("gateway")
async def test_it_ends_with_4_for_a_station_that_does_not_answer_in_time(amqp_url: str) -> None:
    done = await run(
        *[
            "--station",
            "CP1",
            "--vendor",
            "v",
            "--message",
            "hang",
            "--timeout",
            "0.3",
            "--amqp-url",
            amqp_url,
        ]
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        4,
        "",
        "dtbridge: no answer within 0.3 s\n",
    )


@pytest.mark.usefixtures("gateway")
async def test_it_ends_with_5_for_a_station_that_no_gateway_holds(amqp_url: str) -> None:
    done = await run("--station", "cp1", "--vendor", "v", "--amqp-url", amqp_url)
    assert (done.returncode, done.stdout, done.stderr) == (
        5,
        "",
        "dtbridge: station 'cp1' is not connected\n",
    )


async def test_where_no_gateway_has_ever_been_no_station_is_connected_either(amqp_url: str) -> None:
    done = await run("--station", "CP1", "--vendor", "v", "--amqp-url", amqp_url)
    assert (done.returncode, done.stdout, done.stderr) == (
        5,
        "",
        "dtbridge: station 'CP1' is not connected\n",
    )
