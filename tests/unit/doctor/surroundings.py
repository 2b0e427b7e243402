"""Surroundings in which all is well, to be changed by a test."""

from typing import Any

import msgspec

from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.topology import Mode, QueueType, Topology, worker_topology
from bridge.doctor.facts import Machine, ManagementSeen, Surroundings, Vendors
from bridge.doctor.findings import Check, Finding, Level, examine
from bridge.rabbitmq.management import LiveQueue, Node, Overview
from bridge.rabbitmq.probing import BrokerSeen, ClockSeen, HostSeen, PartSeen, Right

NAMES = Names()

MACHINE = Machine(
    python=(3, 12, 1),
    implementation="CPython",
    platform="Linux x86_64",
    libraries={"aiormq": "7.2.4"},
    optional={"redis": ""},
    uvloop=True,
    compiled=15,
    plain={},
    pure=False,
    files=(1024, 1_048_576),
    clock_synchronised=True,
)


def a_plan(queue_type: QueueType = QueueType.QUORUM) -> Topology:
    return worker_topology(Native(NAMES), ["acme"], Mode.DECLARE, queue_type)


def a_host(**changes: Any) -> HostSeen:
    host = HostSeen("amqp://a/", version="4.1.3", channel_max=2047, frame_max=131_072)
    return msgspec.structs.replace(host, **changes)


def seen(plan: Topology, **changes: dict[str, Any]) -> tuple[PartSeen, ...]:
    """All parts as they should be. `changes`: by name of the queue, dots as underlines."""
    parts = [
        PartSeen(
            name=exchange.name,
            is_queue=False,
            there=Right.GRANTED,
            configure=Right.GRANTED,
            write=Right.GRANTED,
        )
        for exchange in plan.exchanges
    ]
    for queue in plan.queues:
        part = PartSeen(
            name=queue.name,
            is_queue=True,
            there=Right.GRANTED,
            configure=Right.GRANTED,
            read=Right.GRANTED,
            consumers=0 if queue.name == NAMES.dead else 1,
        )
        changed = changes.get(queue.name.replace(".", "_").replace("-", "_"), {})
        parts.append(msgspec.structs.replace(part, **changed))
    return tuple(parts)


def a_broker(plan: Topology | None = None, **changes: Any) -> BrokerSeen:
    broker = BrokerSeen(
        (a_host(),), seen(plan or a_plan()), Right.GRANTED, clock=ClockSeen(ahead=0.0)
    )
    return msgspec.structs.replace(broker, **changes)


def live(plan: Topology, **changes: dict[str, Any]) -> dict[str, LiveQueue]:
    found = {}
    for queue in plan.queues:
        one = LiveQueue(
            queue.name, type=queue.arguments["x-queue-type"], arguments=queue.arguments, consumers=1
        )
        changed = changes.get(queue.name.replace(".", "_").replace("-", "_"), {})
        found[queue.name] = msgspec.structs.replace(one, **changed)
    return found


def a_management(plan: Topology | None = None, **changes: Any) -> ManagementSeen:
    management = ManagementSeen(
        "http://a:15672/", Overview("4.1.3"), (Node("a", running=True),), live(plan or a_plan())
    )
    return msgspec.structs.replace(management, **changes)


def surroundings(**changes: Any) -> Surroundings:
    plan = changes.get("plan", a_plan())
    well = Surroundings(
        plan=plan,
        mode=Mode.DECLARE,
        queue_type=QueueType.QUORUM,
        prefix=NAMES.prefix,
        unknown_vendor=NAMES.unknown_vendor,
        dead=NAMES.dead,
        heartbeat=10,
        verified=True,
        machine=MACHINE,
        vendors=Vendors({"acme": 2}),
        broker=a_broker(plan),
        management=a_management(plan),
    )
    return msgspec.structs.replace(well, **changes)


def findings(check: Check[Surroundings], **changes: Any) -> list[Finding]:
    return list(examine([check], surroundings(**changes)))


def told(check: Check[Surroundings], **changes: Any) -> list[tuple[Level, str]]:
    return [(finding.level, finding.sentence) for finding in findings(check, **changes)]


def worst(check: Check[Surroundings], **changes: Any) -> Finding:
    """The one finding that is not ok."""
    [bad] = [each for each in findings(check, **changes) if each.level is not Level.OK]
    assert bad.advice or bad.level is Level.UNKNOWN
    return bad
