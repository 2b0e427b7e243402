"""A cluster of three nodes loses one, or two."""

import asyncio
from collections.abc import AsyncIterator

from bridge.dialects.names import Names
from bridge.dialects.partitions import Partitions
from bridge.dialects.topology import DISCONNECTED_MS
from bridge.testing.rabbitmq import PrivateBroker, speaks_amqp
from tests.faults.catalogue import Needs, fault
from tests.faults.commands import dtbridge
from tests.faults.handlers import VENDOR
from tests.faults.load import Mix
from tests.faults.partition_faults import IN_LINE
from tests.faults.pause_faults import Pause, some_in_a_hurry
from tests.faults.stage import Stage

QUEUE = Names().vendor_queue(VENDOR)

FOUR_IN_ORDER = Partitions(4, ordered=True)
PARTITION = FOUR_IN_ORDER.queues(QUEUE)[0]

WAITING = Mix({"Echo": 40, "Flaky": 60})


async def _kill_leader(stage: Stage, *, clock: bool = True, queue: str = QUEUE) -> PrivateBroker:
    """Kill the node that leads the queue. `clock`: the recovery counts from here."""
    stage.sessions_end = True
    leader = await stage.leader(queue)
    await asyncio.to_thread(leader.sync)
    await asyncio.to_thread(leader.kill)
    if clock:
        stage.now()
    return leader


async def _leader_away(stage: Stage) -> AsyncIterator[None]:
    leader = await _kill_leader(stage)
    await stage.recovered()
    yield
    await asyncio.to_thread(leader.start)


@fault("leader killed, and back", needs=Needs.CLUSTER, within=10.0, hold=0.0)
async def leader_killed(stage: Stage) -> AsyncIterator[None]:
    async for _ in _leader_away(stage):
        yield


@fault(
    "leader killed, most requests between two tries",
    needs=Needs.CLUSTER,
    within=10.0,
    hold=3.0,
    make=WAITING,
)
async def leader_of_waiting_killed(stage: Stage) -> AsyncIterator[None]:
    async for _ in _leader_away(stage):
        yield


@fault(
    "leader killed, back, and the next leader killed", needs=Needs.CLUSTER, within=10.0, hold=0.0
)
async def next_leader_killed(stage: Stage) -> AsyncIterator[None]:
    first = await _kill_leader(stage)
    await stage.recovered()
    await asyncio.to_thread(first.start)
    await asyncio.sleep(3.0)  # its replicas catch up: a majority must have them
    second = await _kill_leader(stage)
    await stage.recovered()
    yield
    await asyncio.to_thread(second.start)


@fault(
    "leader killed, then another of three, and both back",
    needs=Needs.CLUSTER,
    within=10.0,
    hold=2.0,
)
async def majority_killed(stage: Stage) -> AsyncIterator[None]:
    """Without a majority nothing is confirmed or handled: recovery counts from the first return.

    The second node is not killed at once. RabbitMQ 4.3.6 would forget, until its consumer_timeout,
    to redeliver what consumers had in hand at the first (``docs/reliability.md``).
    """
    first = await _kill_leader(stage, clock=False)
    await asyncio.sleep(DISCONNECTED_MS / 1000 + 1.0)  # an election, and work on two nodes
    second = await _kill_leader(stage, clock=False)
    yield
    await asyncio.to_thread(second.start)
    stage.now()
    await stage.recovered()
    await asyncio.to_thread(first.start)


@fault(
    "leader cut off from the other two (partition), and back",
    needs=Needs.CLUSTER,
    within=10.0,
    hold=2.0,
    heartbeat=2,
)
async def partition(stage: Stage) -> AsyncIterator[None]:
    """No distribution traffic passes: the leader and the others think each other's cookie wrong."""
    for node in stage.nodes:
        await stage.ask_node(
            "application:set_env(rabbit, cluster_partition_handling, pause_minority)", node
        )
    leader = await stage.leader(QUEUE)
    others = [node for node in stage.nodes if node is not leader]
    names = ", ".join(f"'{other.node}'" for other in others)
    # From both at once: when only one is cut off, Erlang's global makes the others disconnect, too.
    await stage.ask_node(
        f"[erlang:set_cookie(Node, wrong) || Node <- [{names}]], "
        f"[erlang:disconnect_node(Node) || Node <- [{names}]]",
        leader,
    )
    stage.now()
    await stage.recovered()
    yield
    if await stage.ask_node("nodes()", leader) != "[]":
        stage.complaints.append("the leader was not cut off")
    await stage.ask_node(
        f"[erlang:set_cookie(Node, erlang:get_cookie()) || Node <- [{names}]], "
        f"[net_kernel:connect_node(Node) || Node <- [{names}]]",
        leader,
    )
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(speaks_amqp, "127.0.0.1", leader.port):
            await asyncio.sleep(0.2)


@fault(
    "leader of partitions in order killed, and back",
    needs=Needs.CLUSTER,
    spread=FOUR_IN_ORDER,
    make=IN_LINE,
    rate=150.0,
    within=10.0,
    hold=1.0,
)
async def leader_of_partitions_killed(stage: Stage) -> AsyncIterator[None]:
    leader = await _kill_leader(stage, queue=PARTITION)
    await stage.recovered()
    yield
    await asyncio.to_thread(leader.start)


@fault(
    "leader of partitions in order killed while their vendor is paused, and back",
    needs=Needs.CLUSTER,
    spread=FOUR_IN_ORDER,
    make=some_in_a_hurry,
    rate=60.0,
    may_expire=True,
    within=10.0,
    hold=3.0,
)
async def leader_of_paused_killed(stage: Stage) -> AsyncIterator[None]:
    """The recovery counts from the command that resumes it, while two nodes are left."""
    await dtbridge(stage, "pause", VENDOR)
    pause = await Pause.begins(stage)
    leader = await _kill_leader(stage, clock=False, queue=PARTITION)
    yield
    pause.ends()
    await dtbridge(stage, "resume", VENDOR)
    stage.now()
    await stage.recovered()
    await asyncio.to_thread(leader.start)
