"""What Kubernetes would start, started as processes: the arguments and variables of each container.

A container has files and a network of its own. Here, folders and addresses stand in for them.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.cli.probe import probe
from bridge.client.client import Client
from bridge.gateway.websocket.passwords import PasswordHash
from bridge.ocpp import DataTransferRequest
from bridge.testing.rabbitmq import PrivateBroker
from bridge.testing.rabbitmq.certificates import make_certificates
from deploy import make_secrets
from deploy.check import overlays
from tests.deployments import Container, containers
from tests.integration.raw_station import raw_station
from tests.integration.support import PATIENCE, BridgeProcess, delete_users, import_definitions
from tests.redis_server import RedisServer

DEPLOY = Path(make_secrets.__file__).parent
POLICIES = DEPLOY / "rabbitmq" / "policies.json"
PASSWORD = "the station's password"


class Files:
    """The Secrets of the namespace, each a folder."""

    def __init__(self, folder: Path, broker: PrivateBroker, redis: RedisServer) -> None:
        self.folder = folder
        policies = json.loads(POLICIES.read_text())
        make_secrets.make(folder, f"127.0.0.1:{broker.port}", f"127.0.0.1:{redis.port}", [policies])
        made = json.loads((folder / "broker" / "definitions.json").read_text())
        import_definitions(broker, made)
        self.add("stations", "passwords", f"CP001:{PasswordHash.of(PASSWORD.encode())}\n")
        certificates = folder / "certificates"
        certificates.mkdir()
        make_certificates(certificates)
        self.authority = certificates / "ca.pem"
        self.add("gateway-tls", "tls.crt", (certificates / "host.pem").read_text())
        self.add("gateway-tls", "tls.key", (certificates / "host.key").read_text())

    def add(self, secret: str, key: str, text: str) -> None:
        (self.folder / secret).mkdir(exist_ok=True)
        (self.folder / secret / key).write_text(text)

    def environment(self, container: Container) -> dict[str, str]:
        """A container's variables, with the files where they are here, and free ports."""
        found = {}
        for name, value in container.environment.items():
            found[name] = value
            for mounted, secret in container.secrets.items():
                found[name] = found[name].replace(f"{mounted}/", f"{self.folder / secret}/")
        listens = {"DTBRIDGE_HTTP", "DTBRIDGE_LISTEN"} & found.keys()
        return found | dict.fromkeys(listens, "127.0.0.1:0")


class ContainerProcess(BridgeProcess):
    """A container's command."""

    def __init__(self, container: Container, files: Files) -> None:
        self.container = container
        self.ready = {"run": "consuming", "gateway": "listening"}[container.command]
        environment = files.environment(container)
        settings = {name.removeprefix("DTBRIDGE_"): value for name, value in environment.items()}
        super().__init__(*container.spec["args"], url=None, settings=settings)

    def probed(self, kind: str) -> bool:
        """What a probe of the container says. The log says where it listens."""
        page = self.container.spec[kind]["httpGet"]["path"]
        return probe(str(self.until("serving http")["address"]), page, PATIENCE).ok

    async def is_ready(self) -> None:
        assert await asyncio.to_thread(self.probed, "startupProbe")
        give_up_at = time.monotonic() + PATIENCE
        while not await asyncio.to_thread(self.probed, "readinessProbe"):
            assert time.monotonic() < give_up_at
            await asyncio.sleep(0.05)

    async def stopped(self) -> None:
        """SIGTERM ends it within its grace period, and it says that it has drained."""
        began = time.monotonic()
        assert await asyncio.to_thread(self.stop) == 0
        assert time.monotonic() - began < self.container.pod["terminationGracePeriodSeconds"]
        assert self.counts


@pytest.fixture
def files(tmp_path: Path, breakable_broker: PrivateBroker) -> Iterator[Files]:
    redis = RedisServer(DEPLOY / "redis" / "redis.conf", tmp_path / "redis" / "users.acl")
    files = Files(tmp_path, breakable_broker, redis)
    with redis:
        yield files
    delete_users(
        breakable_broker, *make_secrets.PERMISSIONS, make_secrets.ADMIN, make_secrets.SCALER
    )
    for policy in json.loads(POLICIES.read_text())["parameters"]:
        name = policy["name"]
        breakable_broker.eval(f'ok = rabbit_policy:delete_op(<<"/">>, <<"{name}">>, <<"guest">>)')


@contextlib.asynccontextmanager
async def running(overlay: str, files: Files) -> AsyncIterator[dict[str, ContainerProcess]]:
    async with contextlib.AsyncExitStack() as stack:
        processes = {}
        for container in containers():
            if container.overlay == overlay:
                process = ContainerProcess(container, files)
                processes[container.name] = await stack.enter_async_context(process)
        yield processes


@pytest.mark.parametrize("overlay", overlays())
async def test_an_overlay_serves_stations_and_stops_in_its_time(overlay: str, files: Files) -> None:
    async with running(overlay, files) as processes:
        for process in processes.values():
            await process.is_ready()
        [address] = processes["gateway"].until("listening")["addresses"]
        tls = "DTBRIDGE_TLS_CERT" in processes["gateway"].container.environment
        context = ssl.create_default_context(cafile=str(files.authority)) if tls else None
        url = f"{'wss' if tls else 'ws'}://{address}/CP001"
        async with raw_station(url, password=PASSWORD.encode(), ssl=context) as station:
            for vendor, message, data in (
                ("com.acme", "GetTariff", {"connectorId": 1}),
                ("com.volta.service", "Logbook", "a line"),
            ):
                request = {"vendorId": vendor, "messageId": message, "data": data}
                answer = await station.call("DataTransfer", request)
                assert answer[2]["status"] == "Accepted", answer
            for name, process in processes.items():
                if name != "gateway":
                    await process.stopped()
            await processes["gateway"].stopped()
            assert (await station.closed())[0] == 1001


async def test_a_client_has_an_account_as_well(files: Files) -> None:
    url = (files.folder / "client" / "amqp-url").read_text().strip()
    async with running("small", files), Client(url, timeout=PATIENCE) as client:
        request = DataTransferRequest("com.acme", "GetTariff", {"connectorId": 2})
        assert (await client.data_transfer("CP001", request)).status == "Accepted"


def waits(module: str, seconds: float) -> str:
    return f"""
import asyncio
from bridge import Call, Router

router = Router("{module}")

@router.on("Wait")
async def wait(call: Call) -> str:
    from bridge.telemetry.logs import get_logger
    get_logger("test").info("the handler waits")
    await asyncio.sleep({seconds})
    return "done"
"""


async def test_a_worker_that_is_rolled_answers_what_it_has_begun(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one, which was ready before, takes what comes meanwhile."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "slow.py").write_text(waits("slow", 3))
    monkeypatch.setenv("PYTHONPATH", str(modules))
    [container] = [
        each for each in containers() if each.overlay == "small" and each.command == "run"
    ]
    for variable in container.spec["env"]:
        if variable["name"] == "DTBRIDGE_TARGETS":
            monkeypatch.setitem(variable, "value", "slow:router")
    url = (files.folder / "client" / "amqp-url").read_text().strip()
    request = DataTransferRequest("slow", "Wait")
    async with (
        ContainerProcess(container, files) as old,
        Client(url, timeout=PATIENCE) as client,
    ):
        begun = asyncio.create_task(client.data_transfer("CP001", request))
        await asyncio.to_thread(old.until, "the handler waits")
        async with ContainerProcess(container, files) as new:
            await new.is_ready()
            stopping = asyncio.create_task(old.stopped())
            await asyncio.to_thread(old.until, "draining")
            coming = [begun]
            for number in range(2, 5):  # the broker may give the old one some yet
                asking = client.data_transfer(f"CP00{number}", request)
                coming.append(asyncio.create_task(asking))
                await asyncio.sleep(0.3)
            await asyncio.to_thread(new.until, "the handler waits")
            assert not stopping.done()
            assert [each.data for each in await asyncio.gather(*coming)] == ["done"] * 4
            await stopping
