"""The users of docs/contract.md can do their work at a real broker, and are refused all else."""

import asyncio
import json
import re
import secrets
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aio_pika
import aiormq
import pytest

from bridge import CallError, DataTransferRequest, DataTransferResponse, StationOffline
from bridge.client.client import Client
from bridge.dialects.names import Names
from bridge.dialects.permissions import TAGS, Role, permissions
from bridge.dialects.topology import Mode, gateway_topology
from bridge.gateway import GatewayLink
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.switching import Switch
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import Binding, Delivery, Subscription
from tests.acceptance.command import dtbridge
from tests.integration.support import PATIENCE, ROOT, WorkerProcess, import_definitions

TARGET = "tests.integration.rights_vendor:router"
NAMES = Names()
ACME = NAMES.vendor_queue("acme")
REPLIES = "datatransfer.replies.another"
"""A reply queue that somebody has named."""
ORDERS = "orders"
"""A queue, and an exchange, of somebody else."""


class Place:
    """A virtual host with a user for each role."""

    def __init__(self, broker: PrivateBroker) -> None:
        self.broker = broker
        self.vhost = f"rights-{secrets.token_hex(4)}"
        self.url = broker.add_vhost(self.vhost)
        for role in Role:
            tags = ", ".join(TAGS.get(role, ()))
            broker.eval(
                "U = rabbit_auth_backend_internal, "
                f'ok = U:add_user(<<"{self.user(role)}">>, <<"{role}">>, <<"guest">>), '
                f'ok = U:set_tags(<<"{self.user(role)}">>, [{tags}], <<"guest">>)'
            )
        users = " ".join(f"{role}={self.user(role)}" for role in Role)
        made = dtbridge(
            "topology", "export", TARGET, "--user", users, "--amqp-url", self.url, folder=ROOT
        )
        assert (made.returncode, made.stderr) == (0, "")
        granted = json.loads(made.stdout)["permissions"]
        assert len(granted) == len(Role)
        import_definitions(broker, {"permissions": granted})

    def user(self, role: Role) -> str:
        return f"{self.vhost}-{role}"

    def of(self, role: Role) -> str:
        """The URL of that user."""
        return self.url.replace("guest:guest", f"{self.user(role)}:{role}")

    def management(self, role: Role) -> str:
        login = f"{self.user(role)}:{role}"
        return self.broker.management_url.replace("guest:guest", login)

    def as_operator(self, *arguments: str, code: int = 0) -> str:
        settings = {
            "DTBRIDGE_AMQP_URL": self.of(Role.OPERATOR),
            "DTBRIDGE_MANAGEMENT": self.management(Role.OPERATOR),
        }
        done = dtbridge(*arguments, settings=settings, folder=ROOT)
        assert (done.returncode, done.stderr) == (code, ""), done.stdout
        return done.stdout

    def close(self) -> None:
        self.broker.delete_vhost(self.vhost)
        for role in Role:
            self.broker.eval(
                f'rabbit_auth_backend_internal:delete_user(<<"{self.user(role)}">>, <<"guest">>)'
            )


@pytest.fixture(scope="module")
def place(managed_broker: PrivateBroker) -> Iterator[Place]:
    """Set up as docs/access.md says: the operator makes exchanges and queues, nobody else does."""
    place = Place(managed_broker)
    try:
        assert "Created: " in place.as_operator("topology", "apply", TARGET, "--yes", "--events")
        yield place
    finally:
        place.close()


def asks(message_id: str, *data: Any) -> DataTransferRequest:
    return DataTransferRequest("acme", message_id, list(data))


async def accept(request: DataTransferRequest) -> DataTransferResponse:
    return DataTransferResponse("Accepted", data=request.data)


def link_of(place: Place, role: Role = Role.GATEWAY, mode: Mode = Mode.VERIFY) -> GatewayLink:
    transport = RabbitTransport(
        parse_urls([place.of(role)]), topology=gateway_topology(NAMES, mode)
    )
    return GatewayLink(transport=transport, timeout=PATIENCE)


def worker_of(place: Place, role: Role = Role.WORKER, topology: str = "verify") -> WorkerProcess:
    return WorkerProcess(TARGET, place.of(role), topology=topology, events="all")


# ---- the main job ----


@pytest.mark.parametrize(
    ("worker", "gateway", "mode"),
    [
        (Role.WORKER, Role.GATEWAY, Mode.VERIFY),
        (Role.WORKER, Role.GATEWAY, Mode.NONE),
        (Role.WORKER_DECLARING, Role.GATEWAY_DECLARING, Mode.DECLARE),
    ],
)
async def test_worker_gateway_and_client_do_their_work(
    place: Place, worker: Role, gateway: Role, mode: Mode
) -> None:
    async with (
        worker_of(place, worker, mode.value) as process,
        link_of(place, gateway, mode) as link,
        Client(place.of(Role.CLIENT), timeout=PATIENCE) as client,
    ):
        # Stations ask: an answer, a second try after a delay queue, a failure that is kept.
        answer = await link.data_transfer("CP1", "ocpp2.0.1", asks("Echo", 1))
        assert answer.data == ["CP1", 1]
        assert (await link.data_transfer("CP1", "ocpp2.0.1", asks("Again"))).data == [2]
        with pytest.raises(CallError):
            await link.data_transfer("CP1", "ocpp2.0.1", asks("Fails"))
        unknown = DataTransferRequest("nobody", "m")
        assert (await link.data_transfer("CP1", "ocpp2.0.1", unknown)).status == "UnknownVendorId"
        # Whoever is not a gateway asks, by a private queue and by direct reply-to.
        assert (await client.data_transfer("CP2", asks("Echo", 2))).data == ["CP2", 2]
        assert b"CP3" in await asked_directly(place.of(Role.CLIENT), "CP3")
        # The CSMS asks stations.
        await link.connect_station("CP1", "ocpp2.0.1", accept)
        assert (await client.send_to_station("CP1", asks("Echo", 4))).data == [4]
        await link.disconnect_station("CP1")
        with pytest.raises(StationOffline):
            await client.send_to_station("CP1", asks("Echo", 5))
        assert not [line for line in process.log if "refused" in str(line).lower()]
    assert await ready_dead_letters(place) > 0


async def asked_directly(url: str, station: str) -> bytes:
    """Ask by direct reply-to, in plain AMQP."""
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(message: aiormq.abc.DeliveredMessage) -> None:
        answer.set_result(message.body)

    connection = await aiormq.connect(url)
    channel = await connection.channel()
    await channel.basic_consume("amq.rabbitmq.reply-to", take, no_ack=True)
    await channel.basic_publish(
        b'{"vendorId":"acme","messageId":"Echo","data":"[3]"}',
        exchange=NAMES.requests,
        routing_key="acme",
        properties=aiormq.spec.Basic.Properties(
            message_type="DataTransfer",
            correlation_id="c",
            reply_to="amq.rabbitmq.reply-to",
            headers={"ocpp-station-id": station, "ocpp-version": "ocpp1.6"},
        ),
    )
    async with asyncio.timeout(PATIENCE):
        body = await answer
    await connection.close()
    return body


async def ready_dead_letters(place: Place) -> int:
    async with await aio_pika.connect(place.url) as connection, connection.channel() as channel:
        while True:
            queue = await channel.declare_queue(NAMES.dead, passive=True)
            if queue.declaration_result.message_count:
                return queue.declaration_result.message_count
            await asyncio.sleep(0.1)


# ---- the operator, and who does a part of that ----


async def test_the_operator_looks_after_it_all(place: Place) -> None:
    async with worker_of(place), Client(place.of(Role.CLIENT), timeout=PATIENCE) as client:
        for role in (Role.OPERATOR, Role.LISTENER):
            await _listens(place.of(role), client)
        for _ in range(3):
            with pytest.raises(CallError):
                await client.data_transfer("CP1", asks("Fails"))
        await ready_dead_letters(place)

        def operate() -> None:
            run = place.as_operator
            listed = [json.loads(line) for line in run("dead", "list", "--json").splitlines()]
            assert listed
            assert "acme" in run("dead", "show", listed[0]["id"])
            run("dead", "replay", listed[0]["id"], "--yes", "--include-expired")
            run("dead", "purge", "--older-than", "0s", "--yes")
            assert "Nothing differs" in run("topology", "plan", TARGET)
            assert "Nothing differs" in run("topology", "verify", TARGET, "--events")
            told = json.loads(run("top", "--once", "--json"))
            assert told["broker"] == "management"
            found = json.loads(run("doctor", TARGET, "--json"))
            assert [each for each in found["findings"] if each["level"] == "fail"] == []

        await asyncio.to_thread(operate)


async def _listens(url: str, client: Client) -> None:
    events: asyncio.Queue[Delivery] = asyncio.Queue()
    transport = RabbitTransport(parse_urls([url]))
    bindings = [Binding(NAMES.events, "#")]
    subscription = Subscription("", 0, events.put_nowait, no_ack=True, bindings=bindings)
    await transport.start([subscription], lambda *_: None)
    await client.data_transfer("CP1", asks("Echo", 1))
    async with asyncio.timeout(PATIENCE):
        assert (await events.get()).routing_key == "acme.accepted"
    await transport.close()


@pytest.mark.parametrize("role", [Role.PAUSER, Role.OPERATOR])
async def test_vendors_are_paused_by_who_may_under_workers_that_listen(
    place: Place, role: Role
) -> None:
    async with (
        worker_of(place) as worker,
        Client(place.of(Role.CLIENT), timeout=PATIENCE) as client,
        open_changes(parse_urls([place.of(role)]), "pausing") as changes,
    ):
        switch = Switch(changes, NAMES)
        await switch.pause("acme")
        assert await switch.are_paused(["acme", "other"]) == {"acme"}
        seen = await switch.until_consumed(ACME, consumed=False, seconds=PATIENCE)
        assert seen is not None
        assert seen.consumers == 0
        asked = asyncio.create_task(client.data_transfer("CP1", asks("Echo", 1)))
        await switch.resume("acme")
        assert (await asked).data == ["CP1", 1]
        assert not [line for line in worker.log if "refused" in str(line).lower()]


async def test_the_operator_changes_queues_under_a_worker(managed_broker: PrivateBroker) -> None:
    place = Place(managed_broker)
    try:
        classic = ("--queue-type", "classic")
        await asyncio.to_thread(place.as_operator, "topology", "apply", TARGET, "--yes", *classic)
        async with (
            worker_of(place),
            Client(place.of(Role.CLIENT), timeout=PATIENCE) as client,
        ):
            told = await asyncio.to_thread(
                place.as_operator, "topology", "migrate", TARGET, "--yes"
            )
            assert "datatransfer.acme: done" in told
            assert (await client.data_transfer("CP1", asks("Echo", 1))).data == ["CP1", 1]
        assert "Nothing differs" in await asyncio.to_thread(
            place.as_operator, "topology", "plan", TARGET
        )
    finally:
        place.close()


async def test_one_may_look_at_dead_letters_and_another_replay_them(place: Place) -> None:
    channel = await (await aiormq.connect(place.url)).channel()
    story: Any = {
        "dtbridge-reason": "failed",
        "dtbridge-exchange": NAMES.requests,
        "dtbridge-routing-key": "acme",
    }
    properties = aiormq.spec.Basic.Properties(headers=story, delivery_mode=2)
    for _ in range(2):
        await channel.basic_publish(b"{}", exchange=NAMES.dead, properties=properties)
    await channel.connection.close()
    await ready_dead_letters(place)

    def look() -> None:
        for role, arguments in (
            (Role.DEAD_READER, ("list",)),
            (Role.DEAD_REPLAYER, ("replay", "--limit", "1", "--yes")),
            (Role.DEAD_READER, ("purge", "--yes")),
        ):
            done = dtbridge("dead", *arguments, "--amqp-url", place.of(role))
            assert (done.returncode, done.stderr) == (0, ""), done.stdout

    await asyncio.to_thread(look)


async def test_the_doctor_finds_a_worker_that_declares_nothing_well(place: Place) -> None:
    settings = {"DTBRIDGE_MANAGEMENT": place.management(Role.OPERATOR)}
    done = await asyncio.to_thread(
        dtbridge, "doctor", TARGET, "--json", "--topology", "verify",
        "--amqp-url", place.of(Role.WORKER), settings=settings, folder=ROOT,
    )  # fmt: skip
    found = json.loads(done.stdout)
    told = {each["check"]: each for each in found["findings"] if each["check"] == "rights"}
    assert told["rights"]["level"] == "ok", found
    failed = {each["check"] for each in found["findings"] if each["level"] == "fail"}
    assert failed <= {"consumers"}  # nobody takes what other tests have left


# ---- what each is refused ----

Attempt = Callable[[aiormq.abc.AbstractChannel], Awaitable[Any]]


def consumes(queue: str) -> Attempt:
    return lambda channel: channel.basic_consume(queue, _nothing)


def gets(queue: str) -> Attempt:
    return lambda channel: channel.basic_get(queue)


async def _nothing(_: aiormq.abc.DeliveredMessage) -> None:
    """A consumer."""


def publishes(exchange: str, key: str = "acme") -> Attempt:
    return lambda channel: channel.basic_publish(b"{}", exchange=exchange, routing_key=key)


def declares(queue: str) -> Attempt:
    return lambda channel: channel.queue_declare(queue, durable=True)


def declares_exchange(exchange: str) -> Attempt:
    return lambda channel: channel.exchange_declare(exchange, exchange_type="direct")


def deletes(queue: str) -> Attempt:
    return lambda channel: channel.queue_delete(queue)


def deletes_exchange(exchange: str) -> Attempt:
    return lambda channel: channel.exchange_delete(exchange)


def purges(queue: str) -> Attempt:
    return lambda channel: channel.queue_purge(queue)


def binds(queue: str, exchange: str, key: str = "acme") -> Attempt:
    """An empty name is a private queue."""

    async def attempt(channel: aiormq.abc.AbstractChannel) -> None:
        name = queue
        if not name:
            name = str((await channel.queue_declare(exclusive=True)).queue)
        await channel.queue_bind(name, exchange, key)

    return attempt


EVERYBODY: dict[str, Attempt] = {
    "takes from another's queue": consumes(ORDERS),
    "publishes to another's exchange": publishes(ORDERS),
    "deletes another's queue": deletes(ORDERS),
    "declares a queue of another name": declares("invoices"),
    "declares an exchange of another name": declares_exchange("invoices"),
    "takes the answers of another": consumes(REPLIES),
    "publishes to the broker's own": publishes("amq.topic"),
    "reads the broker's log": binds("", "amq.rabbitmq.log", "#"),
}
NOT_THE_OPERATOR: dict[str, Attempt] = {
    "deletes the exchange of requests": deletes_exchange("datatransfer"),
    "deletes a vendor's queue": deletes("datatransfer.acme"),
    "takes dead letters": consumes("datatransfer.dead"),
    "gets a dead letter": gets("datatransfer.dead"),
    "declares a queue": declares("datatransfer.new"),
    "declares an exchange": declares_exchange("datatransfer.new"),
    "has a vendor's requests copied": binds("", "datatransfer"),
    "has dead letters copied": binds("", "datatransfer.dead", ""),
    "binds a vendor's queue": binds("datatransfer.acme", "datatransfer", "other"),
}
FROM_OUTSIDE: dict[str, Attempt] = {
    "takes a vendor's requests": consumes("datatransfer.acme"),
    "gets one": gets("datatransfer.acme"),
    "purges a vendor's queue": purges("datatransfer.acme"),
    "takes requests between two tries": consumes("datatransfer.retry.1000"),
    "takes requests of unknown vendors": consumes("datatransfer.unknown-vendor"),
    "forges dead letters by their exchange": publishes("datatransfer.dead", ""),
    "forges further tries by their exchange": publishes("datatransfer.retry.1000", ""),
    "forges events": publishes("datatransfer.events", "acme.accepted"),
    "listens to events": binds("", "datatransfer.events", "#"),
}
REFUSED: dict[Role, dict[str, Attempt]] = {
    Role.GATEWAY: EVERYBODY
    | NOT_THE_OPERATOR
    | FROM_OUTSIDE
    | {"asks stations": publishes("datatransfer.stations", "CP1")},
    Role.CLIENT: EVERYBODY
    | NOT_THE_OPERATOR
    | FROM_OUTSIDE
    | {
        "answers in another's name": publishes("", "amq.gen-of-somebody"),
        "takes the requests to a station": binds("", "datatransfer.stations", "CP1"),
    },
    Role.WORKER: EVERYBODY
    | NOT_THE_OPERATOR
    | {
        "asks stations": publishes("datatransfer.stations", "CP1"),
        "takes the requests to a station": binds("datatransfer.dead", "datatransfer.stations"),
        "has a private queue": declares(""),
    },
    Role.OPERATOR: EVERYBODY,
    Role.MONITOR: EVERYBODY | NOT_THE_OPERATOR | FROM_OUTSIDE | {"asks": publishes("datatransfer")},
    Role.LISTENER: EVERYBODY
    | NOT_THE_OPERATOR
    | {
        "takes a vendor's requests": consumes("datatransfer.acme"),
        "asks workers": publishes("datatransfer"),
        "asks stations": publishes("datatransfer.stations", "CP1"),
        "answers in another's name": publishes("", "amq.gen-of-somebody"),
        "forges events": publishes("datatransfer.events", "acme.accepted"),
    },
}
for _role in (Role.DEAD_READER, Role.DEAD_REPLAYER):
    REFUSED[_role] = {
        **EVERYBODY,
        "takes a vendor's requests": consumes("datatransfer.acme"),
        "asks stations": publishes("datatransfer.stations", "CP1"),
        "deletes dead letters' queue": deletes("datatransfer.dead"),
        "forges dead letters by their exchange": publishes("datatransfer.dead", ""),
    }


async def others(place: Place) -> None:
    """Make what belongs to somebody else."""
    connection = await aiormq.connect(place.url)
    channel = await connection.channel()
    for queue in (ORDERS, REPLIES):
        await channel.queue_declare(queue, durable=True)
    await channel.exchange_declare(ORDERS, exchange_type="direct")
    await channel.exchange_declare(NAMES.events, exchange_type="topic", durable=True)
    await connection.close()


@pytest.mark.parametrize("role", REFUSED)
async def test_each_is_refused_what_is_not_its_own(place: Place, role: Role) -> None:
    """403 ACCESS_REFUSED, and nothing else."""
    await others(place)
    connection = await aiormq.connect(place.of(role))
    allowed = []
    for what, attempt in REFUSED[role].items():
        channel = await connection.channel(publisher_confirms=True)
        try:
            await attempt(channel)
        except aiormq.exceptions.ChannelAccessRefused:
            continue
        allowed.append(what)
        await channel.close()
    await connection.close()
    assert allowed == []


def test_a_wrong_role_is_told_with_the_one_that_is_needed(place: Place) -> None:
    """And not that there is no broker; a worker that may not declare need not."""

    def told(role: Role, *arguments: str) -> str:
        done = dtbridge(*arguments, "--amqp-url", place.of(role), folder=ROOT)
        assert done.returncode == 1, done.stdout
        assert "ACCESS_REFUSED" in done.stderr
        assert "no broker" not in done.stderr
        return done.stderr.splitlines()[-1]

    asks_csms = ("send", "--station", "CP1", "--vendor", "acme")
    asks_station = ("send-to-station", "--station", "CP1", "--vendor", "acme")
    for arguments in (asks_csms, asks_station):
        said = told(Role.WORKER, *arguments)
        assert said.startswith("dtbridge: a queue of its own: ACCESS_REFUSED")
        assert "the rights of the role client" in said
        assert "--user client=NAME" in said
    assert "the rights of the role listener" in told(Role.WORKER, "tap")
    said = told(Role.WORKER, "run", TARGET)
    assert "'datatransfer.retry.100'" in said
    assert "start with --topology verify" in said
    assert "--user worker-declaring=NAME" in said
    assert "the role worker:" in told(Role.CLIENT, "run", TARGET, "--topology", "verify")
    listen = ("gateway", "--listen", "127.0.0.1:0")
    assert "start with --topology verify" in told(Role.GATEWAY, *listen)
    assert "the role gateway:" in told(Role.WORKER, *listen, "--topology", "verify")


async def test_a_private_queue_is_its_connections_own(place: Place) -> None:
    """All may read `amq.gen-…`, but it is exclusive (405 RESOURCE_LOCKED)."""
    one = await aiormq.connect(place.of(Role.GATEWAY))
    other = await aiormq.connect(place.of(Role.GATEWAY))
    queue = str((await (await one.channel()).queue_declare(exclusive=True)).queue)
    for attempt in (consumes(queue), gets(queue), deletes(queue), purges(queue)):
        with pytest.raises(aiormq.exceptions.ChannelLockedResource):
            await attempt(await other.channel())
    await one.close()
    await other.close()


def test_the_management_api_shows_and_changes_nothing(place: Place) -> None:
    def status(role: Role, method: str, path: str) -> int:
        login = b64encode(f"{place.user(role)}:{role}".encode()).decode()
        asked = urllib.request.Request(
            f"{place.broker.management_url.replace('guest:guest@', '')}api/{path}",
            method=method,
            data=b"{}" if method == "PUT" else None,
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    shown = (Role.OPERATOR, Role.MONITOR)
    for method, path in (
        ("PUT", "users/mallory"),
        ("GET", "users"),
        ("PUT", f"policies/{place.vhost}/p"),
        ("PUT", f"permissions/{place.vhost}/{place.user(Role.GATEWAY)}"),
        ("DELETE", f"vhosts/{place.vhost}"),
    ):
        for role in shown:
            assert status(role, method, path) in {401, 403}, (role, method, path)
    for role in Role:
        for path in ("overview", f"queues/{place.vhost}/datatransfer.acme"):
            assert (status(role, "GET", path) == 200) == (role in shown), (role, path)


# ---- what RabbitMQ cannot tell ----


async def test_what_security_md_says_rabbitmq_cannot_tell(place: Place) -> None:
    """If one of these comes to be refused, SECURITY.md promises too little."""
    connection = await aiormq.connect(place.of(Role.GATEWAY))

    async def tried(attempt: Attempt) -> None:
        channel = await connection.channel(publisher_confirms=True)
        await attempt(channel)
        await channel.close()

    # The default exchange leads to every queue.
    await tried(publishes("", "datatransfer.acme"))
    await tried(publishes("", "datatransfer.dead"))
    # A station is a routing key, and topic permissions are for topic exchanges.
    import_definitions(
        place.broker,
        {
            "topic_permissions": [
                {
                    "user": place.user(Role.GATEWAY),
                    "vhost": place.vhost,
                    "exchange": exchange,
                    "write": "^$",
                    "read": "^$",
                }
                for exchange in (NAMES.requests, NAMES.stations)
            ]
        },
    )
    await tried(publishes(NAMES.requests, "any-vendor"))
    await tried(binds("", NAMES.stations, "CP-of-another"))
    await connection.close()


async def test_a_listener_can_be_held_to_one_vendors_events(place: Place) -> None:
    await others(place)
    page = (ROOT / "docs" / "access.md").read_text()
    [pattern] = re.findall(r"set_topic_permissions .* datatransfer\.events '\^\$' '(.*)'", page)
    place.broker.ctl(
        "set_topic_permissions", "-p", place.vhost, place.user(Role.LISTENER),
        NAMES.events, "^$", pattern.replace(r"com\.acme", "acme"),
    )  # fmt: skip
    connection = await aiormq.connect(place.of(Role.LISTENER))
    await binds("", NAMES.events, "acme.*")(await connection.channel())
    for key in ("#", "*.failed", "other.*", "acme2.*", "acme.b.*"):
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await binds("", NAMES.events, key)(await connection.channel())
    await connection.close()
    place.broker.ctl(
        "clear_topic_permissions", "-p", place.vhost, place.user(Role.LISTENER), NAMES.events
    )


def test_a_gateway_may_name_its_reply_queue() -> None:
    """As docs/contract.md says, and no other gateway may read it."""
    page = (ROOT / "docs" / "contract.md").read_text()
    [added] = re.findall(r"`(datatransfer\\\.replies\\\.[a-z0-9-]+)`", page)
    configure, _, read = permissions(Role.GATEWAY)
    for right in (configure, read):
        widened = f"{right}|^{added}$"
        assert re.search(widened, "datatransfer.replies.gateway-1")
        assert not re.search(widened, "datatransfer.replies.gateway-10")
        assert not re.search(right, "datatransfer.replies.gateway-1")
