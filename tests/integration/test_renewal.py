"""Passwords, tokens and certificates are renewed under a worker, and no request is lost."""

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge import DataTransferRequest
from bridge.client.client import Client
from bridge.testing.rabbitmq import PrivateBroker
from bridge.testing.rabbitmq.home import Home
from bridge.testing.rabbitmq.server import find_server, root_of
from tests.integration.support import (
    PATIENCE,
    BridgeProcess,
    WorkerProcess,
    close_connections,
)

TARGET = "tests.integration.echo_vendor:router"
OLD, NEW = "old-Qx7Zk9", "new-Qx7Zk9"


def write(path: Path, text: str) -> None:
    """All at once, as orchestrators do."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


@contextlib.asynccontextmanager
async def asking(url: str) -> AsyncIterator[list[int]]:
    """Requests go on and on; at the end each must have its answer. Yields the numbers answered."""
    answered: list[int] = []
    stop = asyncio.Event()

    async def ask(client: Client) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            answer = await client.data_transfer("CP1", DataTransferRequest("echo", "m", [number]))
            assert answer.data == ["CP1", number]
            answered.append(number)

    async with Client(url, timeout=PATIENCE) as client:
        asked = [asyncio.create_task(ask(client)) for _ in range(5)]
        try:
            yield answered
        finally:
            stop.set()
            await asyncio.gather(*asked)


async def more(answered: list[int], count: int = 50) -> None:
    """Wait until that many more have been answered."""
    until = len(answered) + count
    async with asyncio.timeout(PATIENCE):
        while len(answered) < until:
            await asyncio.sleep(0.01)


class Account:
    """A user whose URL stands in a file."""

    def __init__(self, broker: PrivateBroker, vhost: str, file: Path) -> None:
        self.broker, self.vhost, self.file = broker, vhost, file
        self.guest = broker.add_vhost(vhost)
        broker.eval(
            "U = rabbit_auth_backend_internal, "
            f'ok = U:add_user(<<"{vhost}">>, <<"{OLD}">>, <<"guest">>), '
            f'ok = U:set_permissions(<<"{vhost}">>, <<"{vhost}">>, '
            '<<".*">>, <<".*">>, <<".*">>, <<"guest">>)'
        )
        self.write(OLD)

    def write(self, password: str) -> None:
        write(self.file, self.guest.replace("guest:guest", f"{self.vhost}:{password}") + "\n")

    def change(self, password: str) -> None:
        """At the broker."""
        self.broker.eval(
            "ok = rabbit_auth_backend_internal:change_password("
            f'<<"{self.vhost}">>, <<"{password}">>, <<"guest">>)'
        )

    def close(self) -> None:
        self.broker.delete_vhost(self.vhost)
        self.broker.eval(
            f'rabbit_auth_backend_internal:delete_user(<<"{self.vhost}">>, <<"guest">>)'
        )


@pytest.fixture
def account(broker: PrivateBroker, tmp_path: Path) -> Iterator[Account]:
    account = Account(broker, f"renewal-{os.urandom(4).hex()}", tmp_path / "url")
    yield account
    account.close()


class FromFile(BridgeProcess):
    """A worker that finds its broker by a variable that names a file."""

    ready = "consuming"

    def __init__(self, file: Path, *arguments: str, **settings: object) -> None:
        super().__init__(
            "run", TARGET, *arguments, url="", settings={"amqp_url_file": file, **settings}
        )
        del self._environment["DTBRIDGE_AMQP_URL"]


# ---- the password ----


async def test_the_brokers_password_is_changed_without_losing_a_request(account: Account) -> None:
    async with FromFile(account.file) as worker, asking(account.guest) as answered:
        await more(answered)
        account.change(NEW)
        account.write(NEW)
        close_connections(account.broker, account.guest)
        await asyncio.to_thread(worker.until, "consuming", 2)
        await more(answered)
        # The other way round: the file comes first, and the connections live on.
        account.write(OLD)
        for count in (1, 2):
            await asyncio.to_thread(worker.until, "login renewed", count)
        account.change(OLD)
        await more(answered)
        close_connections(account.broker, account.guest)
        await asyncio.to_thread(worker.until, "consuming", 3)
        await more(answered)
        assert "Qx7Zk9" not in json.dumps(worker.log)


async def test_a_file_that_holds_no_url_is_told_once_and_changes_nothing(account: Account) -> None:
    async with FromFile(account.file) as worker, asking(account.guest) as answered:
        write(account.file, "http://not-a-broker-Qx7Zk9")
        told = await asyncio.to_thread(worker.until, "broker URL not read")
        assert "is not a broker URL" in told["reason"]
        close_connections(account.broker, account.guest)
        await asyncio.to_thread(worker.until, "consuming", 2)
        await more(answered)
        assert "Qx7Zk9" not in json.dumps(worker.log)
        assert len([line for line in worker.log if line["event"] == "broker URL not read"]) == 1


async def test_a_password_can_have_a_file_of_its_own(account: Account, tmp_path: Path) -> None:
    file = tmp_path / "password"
    write(file, f"{OLD}\n")
    url = account.guest.replace("guest:guest", account.vhost) + f"?passwordfile={file}"
    async with WorkerProcess(TARGET, url) as worker, asking(account.guest) as answered:
        await more(answered)
        account.change(NEW)
        write(file, f"{NEW}\n")
        close_connections(account.broker, account.guest)
        await asyncio.to_thread(worker.until, "consuming", 2)
        await more(answered)


# Other systems show a process's environment to nobody but root, and each in its own way.
@pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(),
    reason="Linux shows arguments and environment of a process in /proc; this system does not",
)
async def test_no_process_shows_a_password(account: Account) -> None:
    """Neither the supervisor nor its workers, in their arguments or their environment."""
    async with FromFile(account.file, "--processes", "2") as supervisor:
        await asyncio.to_thread(supervisor.until, "consuming", 2)
        children = Path(f"/proc/{supervisor.process.pid}/task/{supervisor.process.pid}/children")
        pids = [str(supervisor.process.pid), *children.read_text().split()]
        assert len(pids) == 3
        for pid in pids:
            for shown in ("cmdline", "environ"):
                text = Path(f"/proc/{pid}/{shown}").read_bytes()
                assert b"Qx7Zk9" not in text, (pid, shown)
                if shown == "environ":
                    assert f"DTBRIDGE_AMQP_URL_FILE={account.file}".encode() in text


# ---- tokens ----

AUDIENCE = "dtbridge-tests"
LIVES = 12.0
"""Seconds that a token lives: twice the time between two looks at its file, and a bit."""


def openssl(*arguments: str, data: bytes = b"") -> bytes:
    return subprocess.run(
        ["openssl", *arguments], check=True, capture_output=True, input=data
    ).stdout


def url_safe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens (JWT, RS256) that a broker takes for a password."""

    def __init__(self, folder: Path) -> None:
        self._key = folder / "issuer.key"
        self.public = folder / "issuer.pem"
        openssl("genrsa", "-out", str(self._key), "2048")
        openssl("rsa", "-in", str(self._key), "-pubout", "-out", str(self.public))

    def token(self, seconds: float) -> str:
        header = {"alg": "RS256", "typ": "JWT", "kid": "tests"}
        claims = {
            "sub": "worker",
            "aud": [AUDIENCE],
            "exp": int(time.time() + seconds),
            # Virtual host, name, and for topic exchanges the routing key.
            "scope": [f"{AUDIENCE}.{right}:*/*/*" for right in ("configure", "write", "read")],
        }
        parts = ".".join(url_safe(json.dumps(part).encode()) for part in (header, claims))
        signed = openssl("dgst", "-sha256", "-sign", str(self._key), data=parts.encode())
        return f"{parts}.{url_safe(signed)}"


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    server = find_server()
    assert server is not None
    home = Home(root_of(server))
    yield home
    home.close()


@pytest.fixture(scope="module")
def issuer(home: Home) -> Issuer:
    return Issuer(home.folder)


@pytest.fixture(scope="module")
def token_broker(home: Home, issuer: Issuer) -> Iterator[PrivateBroker]:
    """A node that takes tokens for passwords, beside the passwords of users that it knows."""
    config = {
        "auth_backends.1": "rabbit_auth_backend_oauth2",
        "auth_backends.2": "internal",
        "auth_oauth2.resource_server_id": AUDIENCE,
        "auth_oauth2.signing_keys.tests": issuer.public,
        "auth_oauth2.default_key": "tests",
    }
    plugins = ["rabbitmq_auth_backend_oauth2"]
    with PrivateBroker(name="tokens", plugins=plugins, config=config, home=home) as broker:
        # Channels of RabbitMQ 3 look each minute whether their token has run out.
        broker.eval("application:set_env(rabbit, channel_tick_interval, 1000)")
        yield broker


async def test_a_token_is_renewed_over_living_connections(
    token_broker: PrivateBroker, issuer: Issuer, tmp_path: Path
) -> None:
    url = token_broker.add_vhost("renewed")
    file = tmp_path / "url"

    def renew(seconds: float) -> None:
        write(file, url.replace("guest:guest", f"worker:{issuer.token(seconds)}"))

    renew(600)
    async with FromFile(file, events="all") as worker, asking(url) as answered:
        began = time.monotonic()
        rounds = 0
        while time.monotonic() < began + 2.5 * LIVES:
            rounds += 1
            renew(LIVES)
            # Requests and replies; events have a connection of their own.
            await asyncio.to_thread(worker.until, "login renewed", 3 * rounds)
            await more(answered)
        assert token_broker.eval("length(rabbit_networking:connections())") == "5"
        assert [line["event"] for line in worker.log].count("consuming") == 1
        assert not [line for line in worker.log if line["level"] in {"warning", "error"}]
    token_broker.delete_vhost("renewed")


async def test_a_token_that_is_not_renewed_ends_the_connection_and_nothing_is_lost(
    token_broker: PrivateBroker, issuer: Issuer, tmp_path: Path
) -> None:
    url = token_broker.add_vhost("expires")
    file = tmp_path / "url"
    write(file, url.replace("guest:guest", f"worker:{issuer.token(600)}"))
    async with FromFile(file) as worker, asking(url) as answered:
        await more(answered)
        write(file, url.replace("guest:guest", f"worker:{issuer.token(8)}"))
        await asyncio.to_thread(worker.until, "login renewed", 2)
        ended = await asyncio.to_thread(worker.until, "connecting", 2)
        assert "JWT token has expired" in ended["reason"]
        write(file, url.replace("guest:guest", f"worker:{issuer.token(600)}"))
        await asyncio.to_thread(worker.until, "consuming", 2)
        await more(answered)
    token_broker.delete_vhost("expires")


async def test_a_token_that_the_broker_does_not_take_ends_the_connection_at_once(
    token_broker: PrivateBroker, issuer: Issuer, tmp_path: Path
) -> None:
    url = token_broker.add_vhost("refused")
    file = tmp_path / "url"
    write(file, url.replace("guest:guest", f"worker:{issuer.token(600)}"))
    async with FromFile(file) as worker, asking(url) as answered:
        await more(answered)
        write(file, url.replace("guest:guest", f"worker:{issuer.token(-60)}"))
        await asyncio.to_thread(worker.until, "broker unreachable")
        write(file, url.replace("guest:guest", f"worker:{issuer.token(600)}"))
        await asyncio.to_thread(worker.until, "consuming", 2)
        await more(answered)
        assert issuer.token(600)[:20] not in json.dumps(worker.log)
    token_broker.delete_vhost("refused")


# ---- certificates ----

_CERTIFICATES = """
req -new -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr
x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem
"""


def certify(folder: Path, name: str) -> None:
    """Make a client's certificate and key, signed by the node's authority."""
    for line in _CERTIFICATES.strip().format(name=name).splitlines():
        subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificate_broker() -> Iterator[PrivateBroker]:
    """A node that knows its users by their certificates."""
    config = {
        "auth_mechanisms.1": "EXTERNAL",
        "auth_mechanisms.2": "PLAIN",
        "ssl_cert_login_from": "common_name",
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
    }
    plugins = ["rabbitmq_auth_mechanism_ssl"]
    with PrivateBroker(name="external", plugins=plugins, config=config, tls=True) as broker:
        for user in ("first", "second"):
            certify(broker.folder, user)
            broker.eval(
                "U = rabbit_auth_backend_internal, "
                f'ok = U:add_user(<<"{user}">>, <<>>, <<"guest">>), '
                f'ok = U:set_permissions(<<"{user}">>, <<"/">>, '
                '<<".*">>, <<".*">>, <<".*">>, <<"guest">>)'
            )
        yield broker


def users(broker: PrivateBroker) -> set[str]:
    """Who is connected."""
    told = broker.eval(
        "[rabbit_networking:connection_info(Pid, [user]) || Pid <- rabbit_networking:connections()]"
    )
    return {user for user in ("first", "second", "guest") if f'<<"{user}">>' in told}


async def test_a_worker_is_known_by_its_certificate_and_takes_a_renewed_one(
    certificate_broker: PrivateBroker, tmp_path: Path
) -> None:
    broker, cert, key = certificate_broker, tmp_path / "own.pem", tmp_path / "own.key"

    def take(name: str) -> None:
        write(key, (broker.folder / f"{name}.key").read_text())
        write(cert, (broker.folder / f"{name}.pem").read_text())

    take("first")
    url = (
        f"amqps://localhost:{broker.tls_port}?auth=external"
        f"&cafile={broker.ca_file}&certfile={cert}&keyfile={key}"
    )
    async with WorkerProcess(TARGET, url) as worker:
        assert users(broker) == {"first"}
        take("second")
        broker.eval(
            '[(catch rabbit_networking:close_connection(Pid, "by the test"))'
            " || Pid <- rabbit_networking:connections()]"
        )
        await asyncio.to_thread(worker.until, "consuming", 2)
        assert users(broker) == {"second"}
        async with Client(broker.url, timeout=PATIENCE) as client:
            answer = await client.data_transfer("CP1", DataTransferRequest("echo", "m", [1]))
            assert answer.data == ["CP1", 1]
