"""The broker itself: reachable, of which version, with which limits, alarms and clock."""

from collections.abc import Iterator
from typing import Final

import msgspec

from bridge.dialects.topology import QueueType
from bridge.doctor.facts import Surroundings
from bridge.doctor.findings import Check, Finding, fail, ok, unknown, warn
from bridge.rabbitmq.management import Node

SLOW: Final = 1.0
"""Seconds to connect from which on it is worth a word."""
CHANNELS_WANTED: Final = 3
"""Channels of a connection: below it, a worker cannot look after its consumers."""
FRAMES_WANTED: Final = 8_192
"""Bytes; RabbitMQ 4.1 and later refuse a smaller ``frame_max``."""
HEARTBEAT_LONG: Final = 30
"""Seconds; RabbitMQ advises 5 to 20."""
APART: Final = 5.0
"""Seconds between two clocks that cost answers: stations wait for 20 to 30."""
NEARLY: Final = 0.8
"""Part of a limit of the broker's from which on it is worth a word."""


class Fault(msgspec.Struct, frozen=True):
    """What is known to be wrong with some versions of RabbitMQ."""

    before: tuple[int, int, int]
    """The first version in which it was mended."""
    sentence: str
    advice: str
    since: tuple[int, int, int] = (0, 0, 0)
    breaks: bool = False
    quorum: bool = False
    """Whether it is about quorum queues alone."""


FAULTS: Final = (
    Fault(
        (3, 10, 0),
        "quorum queues of this version know no time to live, which dead letters and tries need",
        "upgrade, or use --queue-type classic",
        breaks=True,
        quorum=True,
    ),
    Fault(
        (4, 0, 0),
        "RabbitMQ 3 gets no more fixes from its community",
        "upgrade to RabbitMQ 4, by way of 3.13 with all feature flags enabled",
    ),
    Fault(
        (3, 13, 0),
        "one message with an x-death header of its sender's own can stop all dead-lettering of a "
        "node (seen on 3.10, and not on 3.13 or later)",
        "upgrade to 3.13 or later where gateways are not all trusted",
        since=(3, 10, 0),
    ),
    Fault(
        (3, 11, 22),
        "when a node dies, what the broker itself dead-letters waits until that node is back "
        "(rabbitmq-server #9221); the bridge's workers bring tries back themselves",
        "upgrade to 3.13 or later",
        since=(3, 10, 0),
        quorum=True,
    ),
    Fault(
        (3, 12, 4),
        "when a node dies, what the broker itself dead-letters waits until that node is back "
        "(rabbitmq-server #9221); the bridge's workers bring tries back themselves",
        "upgrade to 3.13 or later",
        since=(3, 12, 0),
        quorum=True,
    ),
    Fault(
        (4, 0, 0),
        "looking at more than some 100,000 dead letters in a quorum queue changes their order",
        "upgrade to RabbitMQ 4, and keep dead letters few (dtbridge dead replay, purge)",
        quorum=True,
    ),
)
"""Only what concerns the bridge."""


def check_reachable(known: Surroundings) -> Iterator[Finding]:
    for host in known.broker.hosts:
        if host.error:
            yield fail(
                "broker",
                f"no broker at {host.url}: {host.error}",
                "check user, password and virtual host in --amqp-url, and that the broker has them"
                if host.telling >= 3
                else "check that the broker runs, and name, port and firewall on the way to it",
            )
        elif host.seconds > SLOW:
            yield warn(
                "broker",
                f"RabbitMQ {host.version} at {host.url} took {host.seconds:.1f} s to connect",
                "look for a slow name server, network or authentication backend",
            )
        else:
            yield ok("broker", f"RabbitMQ {host.version} at {host.url}")
    if known.broker_error:
        yield fail("broker", known.broker_error, "try again, and look into the broker's log")


def check_version(known: Surroundings) -> Iterator[Finding]:
    if known.broker.host is None:
        return
    version = known.version
    if version is None:
        yield unknown("version", "the broker does not tell its version; is it a RabbitMQ?")
        return
    quorum = _has_quorum_queues(known)
    faults = [
        fault
        for fault in FAULTS
        if fault.since <= version < fault.before and (quorum or not fault.quorum)
    ]
    shown = ".".join(map(str, version))
    for found, breaks in ((fail, True), (warn, False)):
        some = [fault for fault in faults if fault.breaks is breaks]
        if some:
            # Who follows the advice that leads to the newest version follows all.
            advice = max(some, key=lambda fault: fault.before).advice
            sentences = "; ".join(fault.sentence for fault in some)
            yield found("version", f"RabbitMQ {shown}: {sentences}", advice)
    if not faults:
        yield ok("version", f"nothing that concerns the bridge is known of RabbitMQ {shown}")


def _has_quorum_queues(known: Surroundings) -> bool:
    """As they are, if that is known and there are any; else as the options say.

    That of pauses is one in any case, and holds nothing.
    """
    if known.management is not None and known.management.queues:
        holding = known.management.queues.keys() - {part.name for part in known.plan.control}
        return any(known.management.queues[name].type == "quorum" for name in holding)
    return known.queue_type is QueueType.QUORUM


def check_negotiated(known: Surroundings) -> Iterator[Finding]:
    host = known.broker.host
    if host is None:
        return
    fine = True
    if 0 < host.channel_max < CHANNELS_WANTED:
        fine = False
        yield warn(
            "limits",
            f"a connection may have {host.channel_max} channels: a worker cannot see to it that "
            "its consumers are still known",
            f"set channel_max of the broker to {CHANNELS_WANTED} or more, at best to its default",
        )
    if 0 < host.frame_max < FRAMES_WANTED:
        fine = False
        yield warn(
            "limits",
            f"a frame may have {host.frame_max:,} bytes",
            f"set frame_max of the broker to {FRAMES_WANTED:,} or more, at best to its default",
        )
    if not known.heartbeat or known.heartbeat > HEARTBEAT_LONG:
        fine = False
        how = f"every {known.heartbeat} s" if known.heartbeat else "off"
        yield warn(
            "limits",
            f"heartbeats are {how}: a broker that is gone without a word is noticed late or never",
            "leave out heartbeat= in --amqp-url (10 s), or set it to 5 to 20",
        )
    if fine:
        yield ok(
            "limits",
            f"channel_max {host.channel_max or 'none'}, frame_max {host.frame_max:,}, heartbeat "
            f"{known.heartbeat} s",
        )


def check_management(known: Surroundings) -> Iterator[Finding]:
    if known.broker.host is None:
        return
    management = known.management
    if management is None:
        yield unknown(
            "management",
            f"{known.management_error}; policies, alarms, what workers have in hand and the "
            "broker's limits are not known",
            "enable the plugin rabbitmq_management, give the user the tag monitoring, or name the "
            "URL with --management",
        )
        return
    if management.overview.disable_stats:
        yield warn(
            "management",
            f"the management API at {management.url} has no counts "
            "(management_metrics_collection is denied)",
            "permit that deprecated feature, or take the counts from Prometheus; KEDA reads 0 "
            "from this API",
        )
    else:
        yield ok("management", f"the management API answers at {management.url}")


def check_alarms(known: Surroundings) -> Iterator[Finding]:
    if known.broker.host is None:
        return
    if known.broker.blocked:
        yield fail(
            "alarms",
            f"the broker takes no publishings ({known.broker.blocked}): no request is answered",
            "free memory or disk of its nodes; workers go on by themselves",
        )
    nodes = known.management.nodes if known.management is not None else None
    for node in nodes or ():
        yield from _of_node(node)
    if nodes:
        if not any(node.mem_alarm or node.disk_free_alarm for node in nodes):
            yield ok("alarms", f"none on {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}")
    elif not known.broker.blocked and not known.broker_error:
        yield ok("alarms", "the broker takes publishings")


def _of_node(node: Node) -> Iterator[Finding]:
    if not node.running:
        yield fail(
            "nodes", f"node {node.name} does not run", "start it, or remove it from its cluster"
        )
        return
    if node.mem_alarm:
        yield fail(
            "alarms",
            f"node {node.name} has a memory alarm: publishers of the whole cluster are blocked",
            "see what fills it (backlogs above), add memory, or raise vm_memory_high_watermark",
        )
    if node.disk_free_alarm:
        yield fail(
            "alarms",
            f"node {node.name} has a disk alarm: publishers of the whole cluster are blocked",
            "free disk space, or lower disk_free_limit if it asks for too much",
        )
    for what, used, limit, setting in (
        ("open files", node.fd_used, node.fd_total, "LimitNOFILE= of its service"),
        ("sockets", node.sockets_used, node.sockets_total, "LimitNOFILE= of its service"),
        ("Erlang processes", node.proc_used, node.proc_total, "+P of its Erlang"),
        ("bytes of memory", node.mem_used, node.mem_limit, "vm_memory_high_watermark"),
    ):
        if used is not None and limit and used > NEARLY * limit:
            yield warn(
                "nodes",
                f"node {node.name} uses {used:,} of {limit:,} {what}",
                f"raise {setting}, or spread the load over more nodes",
            )


def check_clock(known: Surroundings) -> Iterator[Finding]:
    if known.broker.host is None:
        return
    clock = known.broker.clock
    if clock.ahead is None:
        yield unknown("clock", f"the broker's clock is not known: {clock.why or 'not asked'}")
    elif not clock.ahead:
        yield ok("clock", "this machine's clock and the broker's are less than a second apart")
    else:
        where = "ahead of" if clock.ahead > 0 else "behind"
        sentence = f"the broker's clock is {abs(clock.ahead):.1f} s {where} this machine's"
        advice = (
            "keep the clocks of brokers, gateways and workers together by NTP: a deadline is a "
            "time of day, and requests expire too early or too late"
        )
        yield (fail if abs(clock.ahead) >= APART else warn)("clock", sentence, advice)


CHECKS: Final[tuple[Check[Surroundings], ...]] = (
    check_reachable,
    check_version,
    check_negotiated,
    check_management,
    check_alarms,
    check_clock,
)
