"""The how-to guides do what they say: their code, as it stands there, on a real broker."""

import asyncio
import base64
import hashlib
import json
import os
import re
import shlex
import signal
import threading
from collections.abc import Iterator
from functools import partialmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import aio_pika
import httpx
import msgspec
import psycopg
import pytest

from bridge import (
    CallError,
    Client,
    DataTransferRequest,
    DataTransferResponse,
    LifespanError,
    NotAccepted,
    make_worker,
)
from bridge.gateway import GatewayLink
from bridge.testing import TestBridge, assert_accepted, assert_rejected
from tests.acceptance.walking import Saved, acme_of, blocks, load
from tests.integration.support import PATIENCE, ROOT, BridgeProcess, working
from tests.integration.test_dialect_stations import holding

GUIDES = sorted(path.name for path in (ROOT / "docs" / "how-to").glob("*.md"))
TARIFF = {"currency": "EUR", "energyPrice": 1.49}
GET_TARIFF = DataTransferRequest("com.acme", "GetTariff", {"connectorId": 1})

# ---- all of them ----


@pytest.mark.parametrize("guide", GUIDES)
def test_every_python_block_is_code(guide: str) -> None:
    for number, block in enumerate(blocks(f"how-to/{guide}"), 1):
        if block.language == "python":
            compile(block.text, f"{guide}, block {number}", "exec")


def test_the_list_has_every_guide_and_no_other() -> None:
    text = (ROOT / "docs" / "how-to" / "README.md").read_text()
    assert {*re.findall(r"\]\(([\w-]+\.md)\)", text)} == {*GUIDES} - {"README.md"}


# ---- a client in FastAPI ----


async def test_a_web_service_asks_stations(saved: Saved, guide_url: str) -> None:
    saved("fastapi.md")
    app = load("app").app

    async def shown(request: DataTransferRequest) -> DataTransferResponse:
        return DataTransferResponse("Accepted", data=request.data)

    async def wrong(request: DataTransferRequest) -> DataTransferResponse:
        raise CallError("InternalError")

    async with (
        GatewayLink(guide_url) as link,
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as web,
    ):
        await link.connect_station("CP001", "ocpp2.0.1", shown)
        await link.connect_station("CP002", "ocpp2.0.1", wrong)
        answers = [
            await web.post(f"/stations/{name}/text", json={"text": "Hello"})
            for name in ("CP001", "CP002", "CP003")
        ]
        assert [each.status_code for each in answers] == [200, 502, 409]
        assert answers[0].json() == {"status": "Accepted"}
        assert (await web.post("/stations/CP001/text", json={"text": 50 * "x"})).status_code == 422
    await load("test_app").test_a_station_shows_a_text()


# ---- embedding ----


async def test_a_program_has_a_worker(saved: Saved, guide_url: str) -> None:
    saved("embedding.md")
    program = load("program")
    running = asyncio.create_task(program.main())
    async with Client(guide_url, timeout=PATIENCE) as client:
        response = await asked(client, "Ping")
    assert response.data == "Hello CP001"
    os.kill(os.getpid(), signal.SIGTERM)
    await running


async def test_a_web_service_has_a_worker(saved: Saved, guide_url: str) -> None:
    saved("embedding.md")
    app = load("service").app
    transport = httpx.ASGITransport(app)
    async with (
        Client(guide_url, timeout=PATIENCE) as client,
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as web,
    ):
        async with asyncio.timeout(PATIENCE):
            while (ready := await web.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
        assert ready.json()["state"] == "consuming"
        assert (await asked(client, "Ping")).data == "Hello CP001"
    assert app.state.worker.state.value == "stopped"


async def asked(client: Client, message_id: str, data: Any = msgspec.UNSET) -> DataTransferResponse:
    """The answer, as soon as there is a worker."""
    request = DataTransferRequest("com.acme", message_id, data)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await client.data_transfer("CP001", request)
            except NotAccepted:  # there is no queue yet
                await asyncio.sleep(0.05)


# ---- a slow HTTP API ----


class TariffApi(ThreadingHTTPServer):
    """An API that answers with what it is told to, one after the other, and then with a tariff."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.statuses: list[int] = []
        self.keys: list[str | None] = []
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: TariffApi

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Idempotency-Key"])
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        body = json.dumps(TARIFF).encode() if status == 200 else b""
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - its name


@pytest.fixture
def tariff_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[TariffApi]:
    with TariffApi() as api:
        monkeypatch.setenv("TARIFF_API", api.url)
        yield api


async def test_an_http_api_is_asked_again_when_it_says_so(
    saved: Saved, tariff_api: TariffApi
) -> None:
    saved("slow-api.md")
    tariff_api.statuses = [503, 200, 404, 500]
    async with TestBridge(load("my_vendors.tariffs").router) as bridge:

        async def ask(message_id: str) -> DataTransferResponse:
            data = {"connectorId": 1}
            return await bridge.data_transfer(
                "CP001", "com.acme", "GetTariff", data, ocpp_message_id=message_id
            )

        asking = asyncio.create_task(ask("m-1"))
        async with asyncio.timeout(PATIENCE):
            while not bridge.tries:
                await asyncio.sleep(0.01)
        await bridge.clock.advance(10)  # 7 s, as the API says, for which there is a queue of 10 s
        assert_accepted(await asking, TARIFF)
        bridge.assert_retried("com.acme", "GetTariff", times=1, after=10)
        assert tariff_api.keys == ["CP001/m-1", "CP001/m-1"]
        assert_rejected(await ask("m-2"), "UnknownConnector")
        with pytest.raises(CallError, match="InternalError"):
            await ask("m-3")
        bridge.assert_dead_letter("com.acme", "GetTariff", reason="failed")


async def test_an_http_api_that_is_down_is_left_alone(saved: Saved, tariff_api: TariffApi) -> None:
    saved("slow-api.md")
    tariff_api.statuses = 5 * [502]
    async with TestBridge(load("my_vendors.tariffs").router) as bridge:
        asking = [
            asyncio.create_task(
                bridge.data_transfer(f"CP{n}", "com.acme", "GetTariff", {"connectorId": 1})
            )
            for n in range(5)
        ]
        async with asyncio.timeout(PATIENCE):
            while len(bridge.tries) < 5:
                await asyncio.sleep(0.01)
        sixth = asyncio.create_task(
            bridge.data_transfer("CP6", "com.acme", "GetTariff", {"connectorId": 1})
        )
        async with asyncio.timeout(PATIENCE):
            while len(bridge.tries) < 6:
                await asyncio.sleep(0.01)
        assert len(tariff_api.keys) == 5  # nobody was asked
        bridge.assert_retried(station_id="CP6", times=1, after=10)
        await bridge.clock.advance(11)
        for each in await asyncio.gather(sixth, *asking):
            assert_accepted(each, TARIFF)


async def test_an_http_api_is_asked_through_rabbitmq(
    saved: Saved, tariff_api: TariffApi, guide_url: str
) -> None:
    saved("slow-api.md")
    async with working(guide_url, load("my_vendors.tariffs").router), Client(guide_url) as client:
        assert (await client.data_transfer("CP001", GET_TARIFF)).data == TARIFF


# ---- a database pool ----


@pytest.fixture
def database_url(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A PostgreSQL with the guide's table, as its code finds it."""
    [table] = [each.text for each in blocks("how-to/database.md") if each.language == "sql"]
    with psycopg.connect(database) as connection:
        connection.execute(table.encode())
    monkeypatch.setenv("DATABASE_URL", database)
    return database


async def test_handlers_share_a_pool(saved: Saved, guide_url: str, database_url: str) -> None:
    saved("database.md")
    router = load("my_vendors.readings").router
    async with working(guide_url, router), Client(guide_url) as client:
        answers = await asyncio.gather(
            *(
                asked(client, "MeterReading", {"connectorId": n, "wh": 100 * n})
                for n in range(1, 31)
            )
        )
        assert [each.data for each in answers] == [100 * n for n in range(1, 31)]
        backwards = await asked(client, "MeterReading", {"connectorId": 2, "wh": 199})
        assert_rejected(backwards, "RunsBackwards")
        with psycopg.connect(database_url) as connection:
            [stored] = connection.execute("select count(*), sum(wh) from readings").fetchall()
            assert stored == (30, 46_500)
            connection.execute("lock table readings")
            waiting = asyncio.create_task(
                asked(client, "MeterReading", {"connectorId": 1, "wh": 101})
            )
            async with asyncio.timeout(PATIENCE):
                while not await waits(database_url):
                    await asyncio.sleep(0.05)
        assert (await waiting).data == 101


async def waits(url: str) -> bool:
    """Whether a statement waits for a lock."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        found = await connection.execute("select count(*) from pg_locks where not granted")
        return await found.fetchone() != (0,)


async def test_a_database_that_is_down_at_the_start_ends_the_worker(
    saved: Saved, guide_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("database.md")
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none?connect_timeout=1")
    readings = load("my_vendors.readings")
    monkeypatch.setattr(
        readings.AsyncConnectionPool, "wait", partialmethod(readings.AsyncConnectionPool.wait, 0.5)
    )
    with pytest.raises(LifespanError):
        async with asyncio.timeout(PATIENCE):
            await make_worker(readings.router, guide_url).run()


# ---- files and firmware ----


async def test_a_file_is_announced_uploaded_and_read_in_chunks(
    saved: Saved, guide_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("files-and-firmware.md")
    files, chunks = load("my_vendors.files"), load("my_vendors.chunks")
    load("my_vendors.uploads")
    monkeypatch.setattr(chunks, "FOLDER", tmp_path)
    image = tmp_path / "image.bin"
    image.write_bytes(bytes(range(256)) * 20)  # 5,120 bytes: two chunks
    told: list[dict[str, Any]] = []

    async def fetch(request: DataTransferRequest) -> DataTransferResponse:
        told.append(request.data)
        return DataTransferResponse("Accepted")

    async with GatewayLink(guide_url) as link, Client(guide_url) as client:
        await link.connect_station("CP001", "ocpp2.0.1", fetch)
        assert await files.send_file(client, "CP001", image)
    assert told[0]["size"] == 5120
    assert told[0]["url"].startswith("https://files.example/image.bin?until=")
    assert hashlib.sha256(image.read_bytes()).hexdigest() == told[0]["sha256"]
    async with working(guide_url, files.router), Client(guide_url) as client:
        status = {"sha256": told[0]["sha256"], "status": "Installed"}
        assert (await asked(client, "FileStatus", status)).status == "Accepted"
        upload = await asked(client, "RequestUpload", {"name": "log.zip", "size": 1000})
        assert upload.data["url"].startswith("https://files.example/CP001/log.zip?until=")
        large = await asked(client, "RequestUpload", {"name": "log.zip", "size": 10**9})
        assert_rejected(large, "TooLarge")
    async with working(guide_url, chunks.router), Client(guide_url) as client:
        content = b""
        while True:
            part = await asked(client, "GetChunk", {"name": "image.bin", "offset": len(content)})
            content += base64.b64decode(part.data["data"])
            if part.data["isLast"]:
                break
        assert content == image.read_bytes()
        outside = await asked(client, "GetChunk", {"name": "../image.bin", "offset": 0})
        assert_rejected(outside, "InvalidData")


# ---- a gateway of one's own, and those that are there ----


async def test_a_gateway_of_thirty_lines_gets_an_answer(saved: Saved, guide_url: str) -> None:
    saved("own-gateway.md")
    gateway = load("gateway")
    router = acme_of("from-aio-pika.md", saved)
    async with working(guide_url, router), await aio_pika.connect(guide_url) as connection:
        channel = await connection.channel()
        payload = msgspec.json.encode(
            {"vendorId": "com.acme", "messageId": "GetTariff", "data": {"connectorId": 1}}
        )
        kind, body = await gateway.ask(channel, "CP001", "com.acme", payload)
    assert (kind, json.loads(body)) == (
        "DataTransferResponse",
        {"status": "Accepted", "data": TARIFF},
    )


def test_its_keys_are_those_of_the_contract(saved: Saved) -> None:
    saved("own-gateway.md")
    vectors = json.loads((ROOT / "tests" / "vectors" / "vendor_key.json").read_text())
    for each in vectors:
        assert load("gateway").vendor_key(each["vendor_id"]) == each["key"], each["why"]


# ---- gateways that are there ----

ACCEPTED = {"status": "Accepted"}


@pytest.mark.parametrize(
    ("guide", "simulated", "exchange", "station"),
    [
        (
            "citrineos.md",
            "foreign_citrineos.py",
            "citrineos",
            {"protocol": "ocpp2.0.1", "name": "stationId", "payload": ACCEPTED},
        ),
        (
            "web-ocpp.md",
            "foreign_web_ocpp.py",
            "amq.topic",
            {"protocol": "ocpp16", "key": "response", "frame": [3, ACCEPTED]},
        ),
    ],
)
async def test_a_station_behind_a_gateway_of_others_shows_a_text(
    guide: str, simulated: str, exchange: str, station: dict[str, Any], guide_url: str
) -> None:
    [program] = [block.text for block in blocks(f"how-to/{guide}") if block.language == "python"]
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(program, guide, "exec"), names)
    async with holding(simulated, guide_url, exchange, {"CP001": station}):
        assert_accepted(await names["show_text"]("Hello"))


@pytest.mark.parametrize("guide", ["citrineos.md", "web-ocpp.md"])
def test_a_worker_starts_as_the_guide_says(guide: str, saved: Saved, guide_url: str) -> None:
    folder = saved("from-aio-pika.md")
    shown = [block.commands for block in blocks(f"how-to/{guide}") if block.language == "sh"]
    commands = [line for lines in shown for line in lines if line.startswith("dtbridge run")]
    assert commands
    for command in commands:
        given = shlex.split(command.partition(" --amqp-url ")[0])[1:]
        with Started(*given, url=guide_url, settings={}, folder=folder) as worker:
            assert worker.until("starting")["dialect"] == guide.removesuffix(".md")


class Started(BridgeProcess):
    """`dtbridge run`."""

    ready = "consuming"
