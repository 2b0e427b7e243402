"""The dialects' exchanges and queues on a real broker: declared, verified, trusted, found again."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractExchange

from bridge import Call, Retry, Router
from bridge.dialects import CitrineOs, WebOcpp
from bridge.dialects.dialect import Dialect
from bridge.dialects.topology import Mode
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import State, TopologyError
from tests.integration.support import PATIENCE, working
from tests.integration.test_dialects import citrine_message

DIALECTS: dict[str, Callable[[], Dialect]] = {"web-ocpp": WebOcpp, "citrineos": CitrineOs}


def answering() -> Router:
    router = Router("v")

    @router.default
    async def accept(call: Call) -> None: ...

    @router.on("RetryOnce")
    async def retry_once(call: Call) -> str:
        if not call.redelivered and call.attempt == 1:
            raise Retry(0.01)
        return f"at try {call.attempt}"

    return router


class Station:
    """A charging station behind the gateway of a dialect, by plain aio-pika."""

    def __init__(self, dialect: str, channel: AbstractChannel) -> None:
        self._dialect = dialect
        self._channel = channel
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._exchange: AbstractExchange

    async def connect(self) -> None:
        if self._dialect == "web-ocpp":
            self._exchange = await self._channel.get_exchange("amq.topic")
            queue = await self._channel.declare_queue("ocpp.CP-1", durable=True)
            await queue.bind(self._exchange, "CP-1")
        else:
            self._exchange = await self._channel.declare_exchange(
                "citrineos", "headers", durable=False
            )
            queue = await self._channel.declare_queue(
                "rabbit_queue_1:CP-1", durable=True, auto_delete=True
            )
            filters: dict[str, Any] = {
                "tenantId": "1",
                "stationId": "CP-1",
                "state": "2",
                "origin": "csms",
            }
            await queue.bind(self._exchange, "", arguments={"x-match": "all", **filters})
        await queue.consume(self._take, no_ack=True)

    async def _take(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        body = json.loads(message.body)
        await self._answers.put(body["payload"] if self._dialect == "citrineos" else body[2])

    async def asks(self, message: str | None = None) -> Any:
        """The payload of the answer."""
        payload = json.dumps(
            {"vendorId": "v"} | ({"messageId": message} if message else {})
        ).encode()
        if self._dialect == "web-ocpp":
            frame = b'[2,"m-1","DataTransfer",%b]' % payload
            sent = aio_pika.Message(
                frame, correlation_id="m-1", reply_to="CP-1", type="DataTransfer"
            )
            await self._exchange.publish(sent, "ocpp201.DataTransfer.req")
        else:
            told = citrine_message(payload, "m-1")
            await self._exchange.publish(
                aio_pika.Message(base64.b64decode(told["body"]), headers=told["headers"]), ""
            )
        async with asyncio.timeout(PATIENCE):
            return await self._answers.get()


@asynccontextmanager
async def station(url: str, dialect: str) -> AsyncIterator[Station]:
    async with await aio_pika.connect(url) as connection:
        made = Station(dialect, await connection.channel())
        await made.connect()
        yield made


async def refusal(url: str, dialect: str, mode: Mode = Mode.DECLARE) -> str:
    with pytest.raises(TopologyError) as caught:
        async with working(url, answering(), mode=mode, dialect=DIALECTS[dialect]()):
            pass
    return str(caught.value)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_declaring_twice_changes_nothing_and_verifying_finds_it_all(
    amqp_url: str, dialect: str
) -> None:
    async with station(amqp_url, dialect) as it:
        for mode in (Mode.DECLARE, Mode.DECLARE, Mode.VERIFY, Mode.NONE):
            async with working(amqp_url, answering(), mode=mode, dialect=DIALECTS[dialect]()):
                assert (await it.asks()) == {"status": "Accepted"}
                assert (await it.asks("RetryOnce")) == {"status": "Accepted", "data": "at try 2"}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_native_worker_shares_the_dead_letters_with_it_and_nothing_else(
    amqp_url: str, dialect: str
) -> None:
    async with (
        station(amqp_url, dialect) as it,
        working(amqp_url, answering()) as native,
        working(amqp_url, answering(), dialect=DIALECTS[dialect]()) as other,
    ):
        assert (await it.asks("RetryOnce")) == {"status": "Accepted", "data": "at try 2"}
        assert native.worker.counts.received == 0
        assert other.worker.counts.received == 2


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_without_delay_queues_a_request_waits_in_the_worker(
    amqp_url: str, dialect: str
) -> None:
    made = DIALECTS[dialect]()
    async with working(amqp_url, dialect=made):
        pass
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await channel.exchange_delete(made.names.retry(0.1))
    async with (
        station(amqp_url, dialect) as it,
        working(amqp_url, answering(), mode=Mode.NONE, dialect=made),
    ):
        assert (await it.asks("RetryOnce")) == {"status": "Accepted", "data": "at try 1"}


async def test_an_exchange_of_the_plugins_own_is_declared_as_the_plugin_does(amqp_url: str) -> None:
    async with working(amqp_url, answering(), dialect=WebOcpp(exchange="ocpp")):
        pass
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await channel.declare_exchange("ocpp", "topic", durable=True)  # just as the plugin does


async def test_an_exchange_that_the_gateway_would_not_take_is_named(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await channel.declare_exchange("citrineos", "headers", durable=True)
    told = await refusal(amqp_url, "citrineos")
    assert told.startswith("exchange 'citrineos': PRECONDITION_FAILED - inequivalent arg 'durable'")


async def test_bindings_to_an_exchange_that_was_gone_are_made_again_even_if_nothing_is_declared(
    amqp_url: str,
) -> None:
    async with working(amqp_url, answering(), dialect=CitrineOs()):
        pass
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await channel.exchange_delete("citrineos")
    async with (
        station(amqp_url, "citrineos") as it,  # CitrineOS comes first, and declares it anew
        working(amqp_url, answering(), mode=Mode.VERIFY, dialect=CitrineOs()),
    ):
        assert (await it.asks()) == {"status": "Accepted"}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_broker_that_restarts_finds_its_worker_again(
    breakable_broker: PrivateBroker, dialect: str
) -> None:
    """CitrineOS's exchange does not survive that, and its bindings do not either."""
    url = breakable_broker.add_vhost(f"restart-{dialect}")
    async with working(url, answering(), dialect=DIALECTS[dialect]()) as it:
        async with station(url, dialect) as before:
            assert (await before.asks()) == {"status": "Accepted"}
        seen = len(it.transport.history)
        await asyncio.to_thread(breakable_broker.restart)
        await it.transport.until(State.CONNECTING, State.CONSUMING, since=seen)
        async with station(url, dialect) as after:
            assert (await after.asks()) == {"status": "Accepted"}
    breakable_broker.delete_vhost(f"restart-{dialect}")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_rights_that_the_document_names_are_enough_and_verifying_needs_none_to_configure(
    broker: PrivateBroker, dialect: str
) -> None:
    vhost = f"rights-{dialect}"
    url = broker.add_vhost(vhost)
    theirs = {"web-ocpp": "amq.topic", "citrineos": "citrineos"}[dialect]
    narrow = url.replace("guest:guest@", f"{vhost}:secret@")
    broker.eval(f'rabbit_auth_backend_internal:add_user(<<"{vhost}">>, <<"secret">>, <<"guest">>)')

    def allow(configure: str) -> None:
        rights = (
            configure,
            f"^(datatransfer.*|{theirs}|amq.default)$",
            f"^(datatransfer.*|{theirs})$",
        )
        given = ", ".join(f'<<"{right}">>' for right in rights)
        broker.eval(
            "rabbit_auth_backend_internal:set_permissions("
            f'<<"{vhost}">>, <<"{vhost}">>, {given}, <<"guest">>)'
        )

    async with station(url, dialect) as it:
        for mode, configure in (
            (Mode.DECLARE, "^(datatransfer.*|citrineos)$"),
            (Mode.VERIFY, "^$"),
        ):
            allow(configure)
            async with working(narrow, answering(), mode=mode, dialect=DIALECTS[dialect]()):
                assert (await it.asks()) == {"status": "Accepted"}
                assert (await it.asks("RetryOnce")) == {"status": "Accepted", "data": "at try 2"}
    broker.eval(f'rabbit_auth_backend_internal:delete_user(<<"{vhost}">>, <<"guest">>)')
    broker.delete_vhost(vhost)


async def test_a_request_of_the_plugin_waits_no_longer_than_its_station(amqp_url: str) -> None:
    """No worker runs, so it expires in its queue: a dead letter, not an answer nobody waits for."""
    async with working(amqp_url, answering(), dialect=WebOcpp(patience=0.2)):
        pass
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange("amq.topic")
        frame = b'[2,"m-1","DataTransfer",{"vendorId":"v"}]'
        sent = aio_pika.Message(frame, correlation_id="m-1", reply_to="CP-1", type="DataTransfer")
        await exchange.publish(sent, "ocpp16.DataTransfer.req")
        dead = await channel.get_queue("datatransfer.dead")
        async with asyncio.timeout(PATIENCE):
            while (letter := await dead.get(fail=False, no_ack=True)) is None:
                await asyncio.sleep(0.05)
        assert letter.headers["x-first-death-reason"] == "expired"
        assert (letter.body, letter.reply_to) == (frame, "CP-1")
