"""``dtbridge run``: a worker."""

import gc
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bridge.cli.advice import with_advice
from bridge.cli.allocator import keep_memory
from bridge.cli.assembly import (
    IN_MEMORY,
    DialectName,
    check_store,
    make_dialect,
    make_topology,
    open_worker,
)
from bridge.cli.banner import announce_worker
from bridge.cli.config_file import read_from
from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.fleet import START_MARGIN, supervise
from bridge.cli.observing import BlockedAfter, HttpOption, observing_worker, open_listener
from bridge.cli.options import (
    LOCAL,
    NONE_GIVEN,
    AmqpUrl,
    ConnectionName,
    ConnectTimeout,
    DrainTimeout,
    HostOrderOption,
    LogFormatOption,
    LogLevelOption,
    Prefix,
    broker_urls,
    exchange_name,
    finite,
    reply_prefixes,
    words,
)
from bridge.cli.process import FAREWELL, KILL_MARGIN, Scheduling, complete, on_signals, schedule
from bridge.cli.reloading import is_watched, run_reloading
from bridge.cli.routers import Targets, routers_or_fail
from bridge.cli.secrets import file_variable
from bridge.cli.supervisor import Start
from bridge.cli.tracing import tracing
from bridge.dialects import citrineos, web_ocpp
from bridge.dialects.names import PREFIX
from bridge.dialects.permissions import Role
from bridge.dialects.topology import Mode, QueueType
from bridge.rabbitmq.transport import START_TIMEOUT
from bridge.rabbitmq.urls import HostOrder
from bridge.request.retry import RetryPolicy
from bridge.routing.errors import LifespanError
from bridge.telemetry.events import EventMode
from bridge.telemetry.logs import LogFormat, LogLevel, configure, configuring, name_process
from bridge.transport import TransportError
from bridge.worker.dispatch import Expired
from bridge.worker.metrics import worker_registry
from bridge.worker.worker import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

DEFAULTS: Final = Settings()


def run(
    targets: Targets,
    amqp_url: AmqpUrl = LOCAL,
    host_order: HostOrderOption = HostOrder.RANDOM,
    prefetch: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_PREFETCH",
            min=1,
            max=2000,
            help="Requests of one vendor in hand at most.",
        ),
    ] = DEFAULTS.prefetch,
    concurrency: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_CONCURRENCY", min=1, help="Handlers of one vendor running at a time."
        ),
    ] = DEFAULTS.concurrency,
    max_in_flight: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_MAX_IN_FLIGHT",
            min=1,
            help="Requests of all vendors in hand at most; shared out among them.",
        ),
    ] = DEFAULTS.max_in_flight,
    consumer_priority: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_CONSUMER_PRIORITY",
            min=-128,
            max=127,
            help="Of this worker's consumers. Those with a lower one are given requests only when "
            "all with a higher one have their prefetch in hand: for a site that stands by.",
        ),
    ] = DEFAULTS.consumer_priority,
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
    prefix: Prefix = PREFIX,
    dialect: Annotated[
        DialectName,
        typer.Option(
            envvar="DTBRIDGE_DIALECT",
            help="What the gateway speaks: native (the wire contract), web-ocpp (the plugin "
            "rabbitmq-web-ocpp) or citrineos.",
        ),
    ] = DialectName.NATIVE,
    gateway_exchange: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_GATEWAY_EXCHANGE",
            callback=exchange_name,
            help="Of a gateway that is not native, if it is not the usual one "
            f"({web_ocpp.EXCHANGE}, {citrineos.EXCHANGE}).",
        ),
    ] = None,
    answer_within: Annotated[
        float | None,
        typer.Option(
            envvar="DTBRIDGE_ANSWER_WITHIN",
            min=1,
            max=3600,
            callback=finite,
            help="Seconds that a gateway which is not native waits for an answer: "
            f"{web_ocpp.PATIENCE:g} for web-ocpp, {citrineos.PATIENCE:g} for citrineos.",
        ),
    ] = None,
    reply_prefix: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_REPLY_PREFIX",
            callback=reply_prefixes,
            help="How reply queues may begin, beside direct reply-to, amq.gen-* and "
            "PREFIX.replies.*",
        ),
    ] = NONE_GIVEN,
    strict: Annotated[
        bool,
        typer.Option(
            envvar="DTBRIDGE_STRICT",
            help="Refuse what the schema of the OCPP version does not allow.",
        ),
    ] = DEFAULTS.strict,
    expired: Annotated[
        Expired,
        typer.Option(
            envvar="DTBRIDGE_EXPIRED", help="What to do with requests nobody waits for any more."
        ),
    ] = DEFAULTS.expired,
    max_body: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_MAX_BODY", min=1024, help="Bytes of a payload at most, both ways."
        ),
    ] = DEFAULTS.max_body,
    max_bytes: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_MAX_BYTES",
            min=1024,
            help="Bytes of payloads in hand at most; those up to 16 kB do not count.",
        ),
    ] = DEFAULTS.max_bytes,
    attempts: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_ATTEMPTS", min=1, help="Tries of a request whose handler raises Retry."
        ),
    ] = DEFAULTS.retry.attempts,
    idempotency: Annotated[
        str,
        typer.Option(
            envvar="DTBRIDGE_IDEMPOTENCY",
            callback=file_variable,
            help="Where replies are kept for requests that come again: memory, "
            "redis://HOST:PORT/DB for a fleet (or @FILE that holds it), or none.",
        ),
    ] = IN_MEMORY,
    events: Annotated[
        EventMode,
        typer.Option(
            envvar="DTBRIDGE_EVENTS",
            help="Publish an event for each request: none, failures (what was not answered as "
            "designed) or all. dtbridge tap shows them.",
        ),
    ] = DEFAULTS.events,
    event_bodies: Annotated[
        bool,
        typer.Option(
            "--event-bodies",
            envvar="DTBRIDGE_EVENT_BODIES",
            help="Have the payloads of requests and answers in events, up to 64 KiB each.",
        ),
    ] = DEFAULTS.event_bodies,
    drain_timeout: DrainTimeout = DEFAULTS.drain_timeout,
    connect_timeout: ConnectTimeout = START_TIMEOUT,
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
            help="batch: take more messages at a time where processors are short (Linux); "
            "normal: as the process was started.",
        ),
    ] = Scheduling.BATCH,
    http: HttpOption = None,
    blocked_after: BlockedAfter = DEFAULTS.blocked_after,
    name: ConnectionName = "dtbridge",
    log_format: LogFormatOption = LogFormat.AUTO,
    log_level: LogLevelOption = LogLevel.INFO,
    access_log: Annotated[
        bool,
        typer.Option(
            "--access-log",
            envvar="DTBRIDGE_ACCESS_LOG",
            help="Log a line for each request: what became of it, and how long that took.",
        ),
    ] = DEFAULTS.access_log,
    log_payloads: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_LOG_PAYLOADS",
            metavar="VENDOR",
            help="Log the payloads of this vendor's requests and answers, in such lines.",
        ),
    ] = NONE_GIVEN,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            envvar="DTBRIDGE_RELOAD",
            help="Drain and start again whenever a Python file changes. For development.",
        ),
    ] = False,
) -> None:
    """Answer the requests of some vendors until SIGTERM, SIGINT or SIGHUP."""
    watched = is_watched()
    start = Start.of_this_process()
    patience = drain_timeout + FAREWELL + KILL_MARGIN
    config = read_from()
    if reload and not watched and not start.is_child:
        configure(log_format, log_level)
        code = run_reloading(start, words(targets), config, patience=patience + KILL_MARGIN)
        raise typer.Exit(code)
    if start.number is not None:
        name_process(start.number)
    with configuring(log_format, log_level):
        routers = routers_or_fail(targets)
    urls = broker_urls(amqp_url)
    try:
        check_store(idempotency)
        spoken = make_dialect(
            dialect,
            prefix,
            exchange=gateway_exchange,
            patience=answer_within,
            reply_prefixes=tuple(words(reply_prefix)),
        )
        make_topology(routers, spoken, queue_type)  # refuses what the dialect does not have
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    if event_bodies and events is EventMode.NONE:
        fail("--event-bodies is for --events failures or all", EXIT_USAGE)
    listener = open_listener(http, start)
    announce = partial(
        announce_worker, routers, spoken, urls, processes=processes, http=http, config=config
    )
    if processes > 1 and not start.is_child:
        announce()
        code = supervise(
            start,
            processes,
            connect_timeout + START_MARGIN,
            patience=patience,
            listener=listener,
        )
        raise typer.Exit(code)
    settings = Settings(
        prefetch=prefetch,
        concurrency=concurrency,
        max_in_flight=max_in_flight,
        consumer_priority=consumer_priority,
        drain_timeout=drain_timeout,
        strict=strict,
        expired=expired,
        max_body=max_body,
        max_bytes=max_bytes,
        retry=RetryPolicy(attempts=attempts),
        events=events,
        event_bodies=event_bodies,
        blocked_after=blocked_after,
        access_log=access_log,
        log_payloads=words(log_payloads),
    )
    schedule(scheduling)
    keep_memory()

    async def work(provider: "TracerProvider | None") -> None:
        async with (
            open_worker(
                routers,
                urls,
                dialect=spoken,
                settings=settings,
                store=idempotency,
                mode=topology,
                queue_type=queue_type,
                start_timeout=connect_timeout,
                host_order=host_order,
                name=name,
                tracer_provider=provider,
            ) as worker,
            observing_worker(listener, worker, worker_registry(worker)),
        ):
            on_signals(worker.stop, drain_timeout + FAREWELL)
            if not start.is_child:
                announce()
            gc.freeze()  # what the imports made stays: the collector need not look at it again
            await worker.run()

    try:
        with tracing("dtbridge") as provider:
            complete(work(provider))
    except TransportError as error:
        # The roles are those of the native dialect.
        role = Role.WORKER if dialect is DialectName.NATIVE else None
        declares = topology is Mode.DECLARE
        fail(with_advice(error, role, declaring=Role.WORKER_DECLARING if declares else None))
    except LifespanError as error:
        fail(str(error), error=error.__cause__)
