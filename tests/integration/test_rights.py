"""The rights that docs/contract.md names are enough; a reply queue may have a name of its own."""

import asyncio
import re
from typing import Any

import aiormq
import pytest

from bridge.client.client import Client
from bridge.dead_letters.queue import find, open_dead_queue, purge
from bridge.dead_letters.replay import Replayed, replay
from bridge.dialects.names import Names
from bridge.ocpp import DataTransferRequest
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.switching import Switch
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import Binding, Delivery, Subscription
from tests.integration.support import PATIENCE, ROOT, WorkerProcess

CONTRACT = (ROOT / "docs" / "contract.md").read_text()


def rights(user: str) -> list[str]:
    """Of a row of the table: the patterns to configure, write and read."""
    [row] = [line for line in CONTRACT.splitlines() if line.startswith(f"| {user} |")]
    return [cell.replace(r"\|", "|") for cell in re.findall(r"`(.*?)`", row.split(" | ", 1)[1])]


async def test_nobody_needs_more_rights_than_the_contract_says(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("by-contract")
    users = {
        "worker": rights("worker"),
        "client": rights("client, `dtbridge send` and `send-to-station`"),
        "pausing": rights("`dtbridge pause`, `resume`, `paused`"),
        "listening": rights("`dtbridge tap`, and other listeners to [events](events.md)"),
        "looking": rights("`dtbridge dead list`, `show`, `purge`"),
        "replaying": rights("`dtbridge dead replay`"),
    }
    urls = {}
    for user, patterns in users.items():
        assert len(patterns) == 3
        breakable_broker.ctl("add_user", user, user)
        breakable_broker.ctl("set_permissions", "-p", "by-contract", user, *patterns)
        urls[user] = url.replace("guest:guest", f"{user}:{user}")
    async with (
        WorkerProcess("tests.integration.echo_vendor:router", urls["worker"], events="all"),
        Client(urls["client"], timeout=PATIENCE) as client,
    ):
        answer = await client.data_transfer("CP1", DataTransferRequest("echo", "m", [1]))
        assert answer.data == ["CP1", 1]
        await _listen(urls["listening"], client)
        await _pause_and_resume(urls["pausing"])
    await _with_dead_letters(url, urls["looking"], urls["replaying"])


async def _listen(url: str, client: Client) -> None:
    events: asyncio.Queue[Delivery] = asyncio.Queue()
    transport = RabbitTransport(parse_urls([url]))
    bindings = [Binding(Names().events, "#")]
    subscription = Subscription("", 0, events.put_nowait, no_ack=True, bindings=bindings)
    await transport.start([subscription], lambda *_: None)
    await client.data_transfer("CP1", DataTransferRequest("echo", "m", [1]))
    async with asyncio.timeout(PATIENCE):
        assert (await events.get()).routing_key == "echo.accepted"
    await transport.close()


async def _pause_and_resume(url: str) -> None:
    async with open_changes(parse_urls([url]), "pausing") as changes:
        switch = Switch(changes, Names())
        queue = Names().vendor_queue("echo")
        for paused in (True, False):
            await (switch.pause if paused else switch.resume)("echo")
            assert await switch.are_paused(["echo", "other"]) == ({"echo"} if paused else set())
            seen = await switch.until_consumed(queue, consumed=not paused, seconds=PATIENCE)
            assert seen is not None
            assert seen.consumers == (0 if paused else 1)


async def _with_dead_letters(url: str, looking: str, replaying: str) -> None:
    names = Names()
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    story: Any = {
        "dtbridge-reason": "failed",
        "dtbridge-exchange": names.requests,
        "dtbridge-routing-key": "echo",
    }
    properties = aiormq.spec.Basic.Properties(headers=story, delivery_mode=2)
    for _ in range(2):
        await channel.basic_publish(b"{}", exchange=names.dead, properties=properties)
    await connection.close()
    async with asyncio.timeout(PATIENCE):
        async with open_dead_queue(parse_urls([looking]), names.dead) as queue:
            found = [letter async for _, letter in find(queue, lambda _: True, lambda _: None)]
            assert len(found) == 2
        async with open_dead_queue(parse_urls([replaying]), names.dead) as queue:
            result = await replay(queue, lambda _: True, lambda _: None, limit=1)
            assert result == Replayed(replayed=1)
        async with open_dead_queue(parse_urls([looking]), names.dead) as queue:
            assert await purge(queue, lambda _: True, lambda _: None) == 1


@pytest.mark.parametrize("name", ["datatransfer.replies.gateway-1"])
def test_a_gateways_page_says_how_it_may_name_its_reply_queue(name: str) -> None:
    page = (ROOT / "docs" / "gateways.md").read_text()
    [pattern] = re.findall(r"`(datatransfer\\\.replies\\\.[a-z0-9-]+)`", page)
    configure, _, read = re.findall(r"^    '(.*)'", page, re.MULTILINE)
    for right in (configure, read):
        assert re.fullmatch(right.replace("^(", f"^({pattern}|", 1), name)
        assert not re.fullmatch(right, name)
