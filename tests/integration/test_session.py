"""Connections break in every way a broker can break them; all come back, and nothing is lost."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import aio_pika
import pytest

from bridge import Call, Router
from bridge.client.client import Client, NoAnswer
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import HostOrder, parse_urls
from bridge.testing.rabbitmq import PrivateBroker, PrivateCluster, free_ports
from bridge.transport import BrokerUnreachable, State
from bridge.worker.worker import Worker
from tests.integration.support import (
    NAMES,
    PATIENCE,
    WatchedTransport,
    Working,
    close_connections,
    ready,
    request,
    working,
)

QUEUE = NAMES.vendor_queue("v")
RECOVERED = (State.CONNECTING, State.CONSUMING)


class Gate:
    """A router whose handlers wait until they are let through, and count."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.entered = asyncio.Semaphore(0)
        self.handled: list[str] = []
        self.router = Router("v", timeout=PATIENCE)

        @self.router.default
        async def wait(call: Call, data: str) -> str:
            self.entered.release()
            await self.open.wait()
            self.handled.append(data)
            return data

    async def admit(self, count: int) -> None:
        """Wait until so many handlers have been entered."""
        async with asyncio.timeout(PATIENCE):
            for _ in range(count):
                await self.entered.acquire()


@contextlib.asynccontextmanager
async def gated(
    url: str | list[str],
) -> AsyncIterator[tuple[Gate, Working, Client, WatchedTransport]]:
    """A worker, and a client whose transport can be watched."""
    gate = Gate()
    transport = WatchedTransport(url, name="client")
    async with (
        working(url, gate.router) as it,
        Client(transport=transport, timeout=PATIENCE) as client,
    ):
        await client.connect()
        yield gate, it, client, transport


def ask(client: Client, count: int) -> list["asyncio.Task[object]"]:
    async def one(number: int) -> object:
        return (await client.data_transfer("CP", request(data=str(number)))).data

    return [asyncio.create_task(one(number)) for number in range(count)]


async def answers(tasks: list["asyncio.Task[object]"]) -> list[object]:
    async with asyncio.timeout(PATIENCE):
        return list(await asyncio.gather(*tasks))


async def test_connections_closed_by_the_broker_are_opened_again_and_everybody_is_answered(
    broker: PrivateBroker, amqp_url: str
) -> None:
    async with gated(amqp_url) as (gate, it, client, transport):
        asked = ask(client, 20)
        await gate.admit(20)
        close_connections(broker, amqp_url)
        await it.transport.until(State.CONSUMING, *RECOVERED)
        await transport.until(State.CONSUMING, *RECOVERED)
        gate.open.set()
        assert await answers(asked) == [str(number) for number in range(20)]
        assert await answers(ask(client, 5)) == [str(number) for number in range(5)]
    assert await ready(amqp_url, QUEUE) == {QUEUE: 0}


async def test_a_broker_that_restarts_finds_its_worker_and_its_clients_again(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("restart")
    async with gated(url) as (gate, it, client, transport):
        asked = ask(client, 20)
        await gate.admit(20)
        breakable_broker.sync()
        await asyncio.to_thread(breakable_broker.restart)
        await it.transport.until(State.CONSUMING, *RECOVERED)
        await transport.until(State.CONSUMING, *RECOVERED)
        gate.open.set()
        assert await answers(asked) == [str(number) for number in range(20)]
    assert await ready(url, QUEUE) == {QUEUE: 0}
    breakable_broker.delete_vhost("restart")


async def test_requests_time_out_cleanly_while_the_broker_is_away(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("away")
    async with gated(url) as (gate, it, client, transport):
        gate.open.set()
        breakable_broker.sync()
        breakable_broker.kill()
        await transport.until(State.CONSUMING, State.CONNECTING)
        with pytest.raises(NoAnswer):
            await client.data_transfer("CP", request(data="1"), timeout=0.2)
        assert client.outstanding == 0
        asked = ask(client, 5)  # these have patience: they are sent when it is back
        await asyncio.to_thread(breakable_broker.start)
        await it.transport.until(State.CONSUMING, *RECOVERED)
        assert await answers(asked) == [str(number) for number in range(5)]
        assert gate.handled == [str(number) for number in range(5)]
    breakable_broker.delete_vhost("away")


async def test_a_queue_deleted_under_its_consumer_is_declared_and_consumed_again(
    amqp_url: str,
) -> None:
    async with gated(amqp_url) as (gate, it, client, _):
        gate.open.set()
        async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
            await channel.queue_delete(QUEUE)
        await it.transport.until(State.CONSUMING, *RECOVERED)
        assert await answers(ask(client, 5)) == [str(number) for number in range(5)]


async def test_hosts_are_tried_in_turn(amqp_url: str) -> None:
    (closed,) = free_ports(1)
    async with gated([f"amqp://127.0.0.1:{closed}/", amqp_url]) as (gate, _, client, _):
        gate.open.set()
        assert await answers(ask(client, 5)) == [str(number) for number in range(5)]


async def test_a_host_that_swallows_everything_does_not_keep_the_next_from_its_turn(
    amqp_url: str,
) -> None:
    """It accepts connections and says nothing."""
    accepted: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    transport = RabbitTransport(
        parse_urls([f"amqp://127.0.0.1:{port}/", amqp_url]),
        start_timeout=2.0,
        host_order=HostOrder.GIVEN,
    )
    await transport.start([], lambda *_: None)
    assert transport.state is State.CONSUMING
    await transport.close()
    with pytest.raises(
        BrokerUnreachable, match=rf"no broker at amqp://127\.0\.0\.1:{port}/: it does not answer"
    ):
        await RabbitTransport(parse_urls([f"amqp://127.0.0.1:{port}/"]), start_timeout=0.0).start(
            [], lambda *_: None
        )
    assert len(accepted) == 2
    for writer in accepted:
        writer.close()
    silent.close()


async def test_a_transport_can_be_closed_at_any_moment_of_reconnecting(amqp_url: str) -> None:
    """aiormq swallows a cancellation at certain moments; nobody may wait for ever because of it."""
    for step in range(60):
        transport = WatchedTransport(amqp_url)
        await transport.start([], lambda *_: None)
        assert transport._session is not None
        transport._session.end("the test says so")
        await transport.until(State.CONSUMING, State.CONNECTING, State.CONNECTING)  # lost; now to …
        await asyncio.sleep(step * 0.0005)
        async with asyncio.timeout(PATIENCE):
            await transport.close()
        assert transport.history[-1] is State.STOPPED


async def test_a_node_of_a_cluster_may_go(cluster: PrivateCluster) -> None:
    first, second, _ = cluster.nodes
    first.add_vhost("loss")
    urls = [f"{url}loss" for url in cluster.urls]
    async with gated(urls) as (gate, it, client, transport):
        asked = ask(client, 20)
        await gate.admit(20)
        await asyncio.to_thread(first.kill)
        try:
            await it.transport.until(State.CONSUMING, *RECOVERED)
            await transport.until(State.CONSUMING, *RECOVERED)
            gate.open.set()
            assert await answers(asked) == [str(number) for number in range(20)]
        finally:
            await asyncio.to_thread(first.start)
        assert await answers(ask(client, 5)) == [str(number) for number in range(5)]
    second.delete_vhost("loss")


@contextlib.contextmanager
def memory_alarm(broker: PrivateBroker) -> Iterator[None]:
    """An alarm that every connection knows of.

    Each is told by a message of its own, and one that has published just before is blocked only
    when it publishes the next time.
    """
    alarm = "{resource_limit, memory, node()}"
    states = (
        "[State || Pid <- rabbit_networking:connections(), [{state, State}] <- "
        "[(catch rabbit_networking:connection_info(Pid, [state]))]]"
    )
    broker.eval(f"rabbit_alarm:set_alarm({{{alarm}, []}})")
    try:
        give_up_at = time.monotonic() + PATIENCE
        while "running" in broker.eval(states):
            assert time.monotonic() < give_up_at
        yield
    finally:
        broker.eval(f"rabbit_alarm:clear_alarm({alarm})")


async def test_a_memory_alarm_holds_handlers_back_and_nothing_is_lost_or_done_twice(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("alarm")
    async with gated(url) as (gate, it, client, transport):
        asked = ask(client, 20)
        await gate.admit(20)
        with memory_alarm(breakable_broker):
            asked += ask(client, 10)  # a publisher is told when it publishes
            gate.open.set()  # and so is the worker
            await transport.until(State.CONSUMING, State.BLOCKED)
            await it.transport.until(State.CONSUMING, State.BLOCKED)
            assert it.worker.state is State.BLOCKED
        await transport.until(State.BLOCKED, State.CONSUMING)
        await it.transport.until(State.BLOCKED, State.CONSUMING)
        expected = [str(number) for number in (*range(20), *range(10))]
        assert await answers(asked) == expected
        assert sorted(gate.handled) == sorted(expected)
        assert (it.transport.sessions, transport.sessions) == (1, 1)
    breakable_broker.delete_vhost("alarm")


async def test_tls_works_for_worker_and_client(tls_broker: PrivateBroker) -> None:
    async with gated(f"{tls_broker.tls_url}?cafile={tls_broker.ca_file}") as (gate, _, client, _):
        gate.open.set()
        assert await answers(ask(client, 50)) == [str(number) for number in range(50)]


async def test_a_certificate_nobody_vouches_for_is_refused_in_words(
    tls_broker: PrivateBroker,
) -> None:
    transport = RabbitTransport(parse_urls([tls_broker.tls_url]), start_timeout=0.0)
    with pytest.raises(BrokerUnreachable, match="certificate verify failed"):
        await transport.start([], lambda *_: None)
    await transport.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("guest:guest", "guest:wrong"), "it refused the user name or password"),
        (("/test-", "/no-such-"), "530 NOT_ALLOWED - vhost no-such-"),
    ],
)
async def test_a_refusal_is_told_when_the_time_is_over(
    amqp_url: str, change: tuple[str, str], told: str
) -> None:
    """And of several hosts, it is what is told; one that takes us is found in spite of it."""
    (closed,) = free_ports(1)
    refusing = [amqp_url.replace(*change), f"amqp://127.0.0.1:{closed}/"]
    for urls in (refusing[:1], refusing, refusing[::-1]):
        transport = RabbitTransport(parse_urls(urls), start_timeout=0.5)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(BrokerUnreachable, match=told):
                await transport.start([], lambda *_: None)
        await transport.close()
    transport = WatchedTransport([*refusing, amqp_url], start_timeout=0.0)
    await transport.start([], lambda *_: None)
    assert transport.state is State.CONSUMING
    await transport.close()


@contextlib.contextmanager
def limited(broker: PrivateBroker, url: str, whom: str) -> Iterator[None]:
    """At most two connections of a user or to a virtual host: those of one session."""
    guest = '<<"guest">>'
    if whom == "user":
        module, name = "rabbit_auth_backend_internal", guest
        limit = f'set_user_limits({name}, #{{<<"max-connections">> => 2}}, {guest})'
        no_limit = f'clear_user_limits({name}, <<"all">>, {guest})'
    else:
        module, name = "rabbit_vhost_limit", f'<<"{url.rpartition("/")[2]}">>'
        limit = f'set({name}, [{{<<"max-connections">>, 2}}], {guest})'
        no_limit = f"clear({name}, {guest})"
    broker.eval(f"ok = {module}:{limit}")
    try:
        yield
    finally:
        broker.eval(f"ok = {module}:{no_limit}")


@pytest.mark.parametrize("whom", ["user", "vhost"])
async def test_a_limit_of_connections_is_waited_for(
    breakable_broker: PrivateBroker, whom: str
) -> None:
    url = breakable_broker.add_vhost(f"limit-{whom}")
    with limited(breakable_broker, url, whom):
        first, second = WatchedTransport(url), WatchedTransport(url, start_timeout=PATIENCE)
        await first.start([], lambda *_: None)
        starting = asyncio.create_task(second.start([], lambda *_: None))
        await second.until(State.CONNECTING, State.CONNECTING, State.CONNECTING)  # two refusals
        assert not starting.done()
        third = WatchedTransport(url, start_timeout=0.0)
        with pytest.raises(BrokerUnreachable, match=r"530 NOT_ALLOWED - .*limit"):
            await third.start([], lambda *_: None)
        await third.close()
        await first.close()
        async with asyncio.timeout(PATIENCE):
            await starting
        await second.close()
    breakable_broker.delete_vhost(f"limit-{whom}")


async def test_a_worker_asked_to_stop_while_it_looks_for_a_broker_stops() -> None:
    (closed,) = free_ports(1)
    gate = Gate()
    transport = WatchedTransport(f"amqp://127.0.0.1:{closed}/", start_timeout=PATIENCE)
    worker = Worker([gate.router], transport)
    running = asyncio.create_task(worker.run())
    await transport.until(State.CONNECTING, State.CONNECTING)
    worker.stop()
    async with asyncio.timeout(PATIENCE / 2):
        assert await running == 0
