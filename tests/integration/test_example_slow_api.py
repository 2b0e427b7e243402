"""examples/slow_api.py, with an HTTP API that is slow, fails and recovers."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bridge import CallError, Client, DataTransferRequest, NoAnswer
from examples import slow_api
from tests.integration.support import PATIENCE, dead_letters, working

Behaviour = Callable[["Asked"], None]
QUERY = DataTransferRequest("com.acme", "GetTariff", {"connectorId": 1})
TARIFF = {"currency": "EUR", "energyPrice": 0.49}


class Api(ThreadingHTTPServer):
    """An HTTP API that treats each request as the next of `behaviours` says, or else as the last.

    `times`: when it was asked.
    """

    daemon_threads = False

    def __init__(self) -> None:
        self.behaviours: list[Behaviour] = [works]
        self.times: list[float] = []
        self.paths: list[str] = []
        self.closing = threading.Event()

        super().__init__(("127.0.0.1", 0), Asked)


class Asked(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Api

    def do_GET(self) -> None:
        self.server.times.append(time.monotonic())
        self.server.paths.append(self.path)
        behaviour = self.server.behaviours[0]
        del self.server.behaviours[: len(self.server.behaviours) > 1]
        behaviour(self)

    def log_message(self, *_: object) -> None: ...


def answering(status: int, body: bytes = b"{}", **headers: str) -> Behaviour:
    def answer(handler: Asked) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


works = answering(200, b'{"currency": "EUR", "energyPrice": 0.49}')


def hangs(handler: Asked) -> None:
    handler.close_connection = True
    handler.server.closing.wait(PATIENCE)


def hangs_up(handler: Asked) -> None:
    handler.close_connection = True


def drips(handler: Asked) -> None:
    """A byte at a time: no read takes long, and the whole never ends."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        while not handler.server.closing.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    except OSError:
        pass  # the worker has hung up


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with Api() as api:
        serving = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        monkeypatch.setenv("TARIFF_API", f"http://127.0.0.1:{api.server_port}")
        monkeypatch.setenv("TARIFF_API_TIMEOUT", "0.4")
        yield api
        api.closing.set()
        api.shutdown()
        serving.join()


@pytest.fixture
async def client(api: Api, amqp_url: str) -> AsyncIterator[Client]:
    async with working(amqp_url, slow_api.router), Client(amqp_url, timeout=PATIENCE) as client:
        yield client


async def test_it_answers_when_the_api_has_recovered(api: Api, client: Client) -> None:
    api.behaviours = [hangs, hangs_up, answering(503), drips, works]
    answer = await client.data_transfer("CP001", QUERY)
    assert (answer.status, answer.data) == ("Accepted", TARIFF)
    assert api.paths == ["/connectors/1/tariff"] * 5
    pauses = [later - earlier for earlier, later in zip(api.times, api.times[1:], strict=False)]
    assert pauses[1] > 0.25  # the policy's: half of it is chance


async def test_the_api_says_how_long_to_wait(api: Api, client: Client) -> None:
    api.behaviours = [answering(429, Retry_After="1"), works]
    assert (await client.data_transfer("CP001", QUERY)).status == "Accepted"
    first, second = api.times
    assert second - first >= 1


async def test_what_the_api_does_not_know_is_an_answer(
    api: Api, client: Client, amqp_url: str
) -> None:
    api.behaviours = [answering(404)]
    answer = await client.data_transfer("CP001", QUERY)
    assert answer.status == "Rejected"
    assert answer.status_info is not None
    assert answer.status_info.reason_code == "UnknownConnector"
    assert len(api.paths) == 1
    assert await dead_letters(amqp_url) == []


async def test_a_mistake_of_our_own_is_not_tried_again(
    api: Api, client: Client, amqp_url: str
) -> None:
    api.behaviours = [answering(401)]
    with pytest.raises(CallError, match="InternalError"):
        await client.data_transfer("CP001", QUERY)
    (letter,) = await dead_letters(amqp_url)
    assert letter.headers["dtbridge-reason"] == "failed"
    assert len(api.paths) == 1


async def test_nothing_is_asked_when_the_station_has_given_up(api: Api, client: Client) -> None:
    api.behaviours = [hangs]
    began = time.monotonic()
    with pytest.raises((NoAnswer, CallError)):  # there is no time left, or none for another try
        await client.data_transfer("CP001", QUERY, timeout=1.2)
    await asyncio.sleep(1.5)  # time for a try that must not be
    assert api.times[-1] - began < 1.2
    assert len(api.times) in {1, 2}
