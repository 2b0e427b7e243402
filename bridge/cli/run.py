"""``dtbridge run``: a worker."""

import asyncio
import gc
import signal
import sys
from typing import Annotated

import typer

from bridge.cli.assembly import DialectName, check_store, open_dialect, open_store
from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.options import (
    LOCAL,
    AmqpUrl,
    ConnectTimeout,
    DrainTimeout,
    LogFormatOption,
    LogLevelOption,
    Prefix,
    broker_urls,
    exchange_name,
    finite,
    words,
)
from bridge.cli.process import Scheduling, complete, on_signals, schedule
from bridge.cli.routers import Targets, routers_or_fail
from bridge.cli.supervisor import Supervisor
from bridge.dialects.topology import Mode, QueueType, Topology
from bridge.rabbitmq.transport import RabbitTransport
from bridge.request.retry import RetryPolicy
from bridge.telemetry.logs import LogFormat, LogLevel, configuring
from bridge.transport import TransportError
from bridge.worker.dispatch import MAX_BODY, Expired
from bridge.worker.worker import Settings, Worker


def run(
    targets: Targets,
    amqp_url: AmqpUrl = LOCAL,
    prefetch: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_PREFETCH",
            min=1,
            max=2000,
            help="Requests of one vendor in hand at most.",
        ),
    ] = 200,
    concurrency: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_CONCURRENCY", min=1, help="Handlers of one vendor running at a time."
        ),
    ] = 200,
    max_in_flight: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_MAX_IN_FLIGHT",
            min=1,
            help="Requests of all vendors in hand at most; shared out among them.",
        ),
    ] = 10_000,
    topology: Annotated[
        Mode,
        typer.Option(
            envvar="DTBRIDGE_TOPOLOGY",
            help="declare: create what is missing; verify: fail if it is; none: trust.",
        ),
    ] = Mode.DECLARE,
    queue_type: Annotated[
        QueueType,
        typer.Option(
            envvar="DTBRIDGE_QUEUE_TYPE", help="Of the vendors' queues: quorum or classic."
        ),
    ] = QueueType.QUORUM,
    prefix: Prefix = "datatransfer",
    dialect: Annotated[
        DialectName,
        typer.Option(
            envvar="DTBRIDGE_DIALECT",
            help="What the gateway speaks: native (the wire contract), web-ocpp (the plugin rabbitmq-web-ocpp) or citrineos.",
        ),
    ] = DialectName.NATIVE,
    gateway_exchange: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_GATEWAY_EXCHANGE",
            callback=exchange_name,
            help="Of a gateway that is not native, if it is not the usual one (amq.topic, citrineos).",
        ),
    ] = None,
    answer_within: Annotated[
        float | None,
        typer.Option(
            envvar="DTBRIDGE_ANSWER_WITHIN",
            min=1,
            max=3600,
            callback=finite,
            help="Seconds that a gateway which is not native waits for an answer: 30 for web-ocpp, 20 for citrineos.",
        ),
    ] = None,
    reply_prefix: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_REPLY_PREFIX",
            help="How reply queues may begin, beside direct reply-to, amq.gen-* and PREFIX.replies.*",
        ),
    ] = [],  # noqa: B006 - typer copies it
    strict: Annotated[
        bool,
        typer.Option(
            envvar="DTBRIDGE_STRICT",
            help="Refuse what the schema of the OCPP version does not allow.",
        ),
    ] = False,
    expired: Annotated[
        Expired,
        typer.Option(
            envvar="DTBRIDGE_EXPIRED", help="What to do with requests nobody waits for any more."
        ),
    ] = Expired.DEAD_LETTER,
    max_body: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_MAX_BODY", min=1024, help="Bytes of a payload at most, both ways."
        ),
    ] = MAX_BODY,
    attempts: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_ATTEMPTS", min=1, help="Tries of a request whose handler raises Retry."
        ),
    ] = 5,
    idempotency: Annotated[
        str,
        typer.Option(
            envvar="DTBRIDGE_IDEMPOTENCY",
            help="Where replies are kept for requests that come again: memory, redis://HOST:PORT/DB for a fleet, or none.",
        ),
    ] = "memory",
    drain_timeout: DrainTimeout = 25.0,
    connect_timeout: ConnectTimeout = 15.0,
    processes: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_PROCESSES",
            min=1,
            help="Workers to run side by side; each uses one core.",
        ),
    ] = 1,
    scheduling: Annotated[
        Scheduling,
        typer.Option(
            envvar="DTBRIDGE_SCHEDULING",
            help="batch: take more messages at a time where processors are short (Linux); normal: as the process was started.",
        ),
    ] = Scheduling.BATCH,
    name: Annotated[
        str, typer.Option(envvar="DTBRIDGE_NAME", help="Shown in the broker's list of connections.")
    ] = "dtbridge",
    log_format: LogFormatOption = LogFormat.AUTO,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Answer the requests of some vendors until SIGTERM or SIGINT."""
    with configuring(log_format, log_level):
        routers = routers_or_fail(targets)
    urls = broker_urls(amqp_url)
    try:
        check_store(idempotency)
        spoken = open_dialect(
            dialect,
            prefix,
            exchange=gateway_exchange,
            patience=answer_within,
            reply_prefixes=tuple(words(reply_prefix)),
        )
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    if processes > 1:
        raise typer.Exit(complete(_supervise(processes, connect_timeout + 5.0)))
    settings = Settings(
        prefetch=prefetch,
        concurrency=concurrency,
        max_in_flight=max_in_flight,
        drain_timeout=drain_timeout,
        strict=strict,
        expired=expired,
        max_body=max_body,
        retry=RetryPolicy(attempts=attempts),
    )
    schedule(scheduling)
    vendor_ids = [router.vendor_id for router in routers]
    plan = Topology(spoken.names, vendor_ids, topology, queue_type, spoken.exchange, spoken.queues)

    async def work() -> None:
        transport = RabbitTransport(urls, name=name, topology=plan, start_timeout=connect_timeout)
        async with open_store(idempotency) as store:
            worker = Worker(
                routers, transport, dialect=spoken, settings=settings, store=store, name=name
            )
            on_signals(worker.stop)
            gc.freeze()  # what was made at import stays: the collector need not look at it again
            await worker.run()

    try:
        complete(work())
    except TransportError as error:
        fail(str(error))


async def _supervise(count: int, start_timeout: float) -> int:
    """This very command, `count` times over."""
    supervisor = Supervisor(
        [sys.executable, "-m", "bridge", *sys.argv[1:], "--processes", "1"], count, start_timeout
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop, number)
    return await supervisor.run()
