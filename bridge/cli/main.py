"""The command ``dtbridge``. Every option is also an environment variable, ``DTBRIDGE_…``; bad input is one sentence."""

import asyncio
import gc
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, Final

import msgspec
import orjson
import rich.console
import rich.table
import typer
from yarl import URL

from bridge.cli.dead import dead
from bridge.cli.gateway import gateway, password
from bridge.cli.options import (
    EXIT_CALL_ERROR,
    EXIT_INTERRUPTED,
    EXIT_NO_ANSWER,
    EXIT_STATION_OFFLINE,
    EXIT_USAGE,
    LOCAL,
    AmqpUrl,
    ConnectTimeout,
    DrainTimeout,
    LogFormatOption,
    LogLevelOption,
    Prefix,
    Scheduling,
    broker_urls,
    complete,
    exchange_name,
    fail,
    finite,
    on_signals,
    schedule,
    words,
)
from bridge.cli.supervisor import Supervisor
from bridge.client.client import Client, NoAnswer, StationOffline
from bridge.dialects import DialectName, open_dialect
from bridge.dialects.dialect import Names
from bridge.dialects.native import Contract
from bridge.dialects.topology import Mode, QueueType, Topology
from bridge.idempotency.guard import check_store, open_store
from bridge.ocpp import CallError, DataTransferRequest, DataTransferResponse, OcppVersion, encode_request, parse_version
from bridge.rabbitmq.transport import RabbitTransport
from bridge.request.retry import RetryPolicy
from bridge.routing.handler import HandlerError
from bridge.routing.router import Router, Routes
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.transport import TransportError
from bridge.worker.dispatch import MAX_BODY, Expired
from bridge.worker.worker import Settings, Worker

_UsageError: Final[Any] = typer.BadParameter.__mro__[1]
"""Of every wrong option. Typer exports no other name for it, and newer ones bring a Click of their own."""

app = typer.Typer(
    name="dtbridge",
    help="OCPP DataTransfer between RabbitMQ and typed handlers.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(dead)

Targets = Annotated[
    list[str],
    typer.Argument(
        envvar="DTBRIDGE_TARGETS",
        metavar="MODULE:NAME…",
        help="Where the routers are; NAME is a Router or a list of them.",
    ),
]


def load_routers(targets: Sequence[str]) -> list[Router]:
    """The routers that ``MODULE:NAME`` targets name. Raises ValueError or TypeError with a sentence for one that names none."""
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    routers: list[Router] = []
    for target in targets:
        found = _load(target)
        for router in found if isinstance(found, list | tuple) else (found,):
            if not isinstance(router, Router):
                raise TypeError(f"{target} is a {type(router).__name__}, not a Router or a list of them")
            if router not in routers:
                routers.append(router)
    Routes(routers)
    return routers


def _load(target: str) -> Any:
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ValueError(f"{target!r} is not MODULE:NAME, for example my_vendors.acme:router")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{target}: there is no module {error.name!r}") from error
    except HandlerError:
        raise
    except Exception as error:
        raise ValueError(f"{target}: importing {module_name} failed with {type(error).__name__}: {error}") from error
    try:
        return getattr(module, name)
    except AttributeError:
        raise ValueError(f"{target}: module {module_name} has no {name!r}") from None


def _routers(targets: Sequence[str]) -> list[Router]:
    try:
        return load_routers(words(targets))
    except (ValueError, TypeError) as error:
        fail(str(error), EXIT_USAGE)


# ---- run ----


@app.command()
def run(
    targets: Targets,
    amqp_url: AmqpUrl = LOCAL,
    prefetch: Annotated[
        int, typer.Option(envvar="DTBRIDGE_PREFETCH", min=1, max=2000, help="Requests of one vendor in hand at most.")
    ] = 200,
    concurrency: Annotated[
        int, typer.Option(envvar="DTBRIDGE_CONCURRENCY", min=1, help="Handlers of one vendor running at a time.")
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
            envvar="DTBRIDGE_TOPOLOGY", help="declare: create what is missing; verify: fail if it is; none: trust."
        ),
    ] = Mode.DECLARE,
    queue_type: Annotated[
        QueueType, typer.Option(envvar="DTBRIDGE_QUEUE_TYPE", help="Of the vendors' queues: quorum or classic.")
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
        bool, typer.Option(envvar="DTBRIDGE_STRICT", help="Refuse what the schema of the OCPP version does not allow.")
    ] = False,
    expired: Annotated[
        Expired, typer.Option(envvar="DTBRIDGE_EXPIRED", help="What to do with requests nobody waits for any more.")
    ] = Expired.DEAD_LETTER,
    max_body: Annotated[
        int, typer.Option(envvar="DTBRIDGE_MAX_BODY", min=1024, help="Bytes of a payload at most, both ways.")
    ] = MAX_BODY,
    attempts: Annotated[
        int, typer.Option(envvar="DTBRIDGE_ATTEMPTS", min=1, help="Tries of a request whose handler raises Retry.")
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
        int, typer.Option(envvar="DTBRIDGE_PROCESSES", min=1, help="Workers to run side by side; each uses one core.")
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
    routers = _routers(targets)
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
    configure(log_format, log_level)
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
            worker = Worker(routers, transport, contract=spoken, settings=settings, store=store, name=name)
            on_signals(worker.stop)
            gc.freeze()  # what was made at import stays: the collector need not look at it again
            await worker.run()

    try:
        complete(work())
    except TransportError as error:
        fail(str(error))


async def _supervise(count: int, start_timeout: float) -> int:
    """This very command, `count` times over."""
    supervisor = Supervisor([sys.executable, "-m", "bridge", *sys.argv[1:], "--processes", "1"], count, start_timeout)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop, number)
    return await supervisor.run()


app.command()(gateway)
app.command()(password)


# ---- send ----

Vendor = Annotated[str, typer.Option(envvar="DTBRIDGE_VENDOR", help="vendorId.")]
Message = Annotated[str | None, typer.Option(envvar="DTBRIDGE_MESSAGE", help="messageId.")]
Data = Annotated[str | None, typer.Option(envvar="DTBRIDGE_DATA", help="data, as JSON.")]
Timeout = Annotated[
    float, typer.Option(envvar="DTBRIDGE_TIMEOUT", min=0.001, callback=finite, help="Seconds to wait for the answer.")
]


@app.command()
def send(
    station: Annotated[str, typer.Option(envvar="DTBRIDGE_STATION", help="The charging station to speak for.")],
    vendor: Vendor,
    message: Message = None,
    data: Data = None,
    ocpp_version: Annotated[
        str, typer.Option(envvar="DTBRIDGE_OCPP_VERSION", help="ocpp1.6, ocpp2.0, ocpp2.0.1 or ocpp2.1.")
    ] = "ocpp2.0.1",
    timeout: Timeout = 30.0,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = "datatransfer",
    log_level: LogLevelOption = LogLevel.ERROR,
) -> None:
    """Send a request of a station and print its answer as JSON. Exit code 0: a response, 3: a CALLERROR, 4: no answer in time."""
    urls = broker_urls(amqp_url)
    configure(LogFormat.AUTO, log_level)
    version, request = _request(vendor, message, data, ocpp_version)

    async def ask() -> DataTransferResponse:
        async with _client(urls, "dtbridge send", prefix, timeout) as client:
            return await client.data_transfer(station, request, ocpp_version=version, timeout=timeout)

    _print_answer(ask(), version)


@app.command("send-to-station")
def send_to_station(
    station: Annotated[str, typer.Option(envvar="DTBRIDGE_STATION", help="The charging station to ask.")],
    vendor: Vendor,
    message: Message = None,
    data: Data = None,
    timeout: Timeout = 30.0,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = "datatransfer",
    log_level: LogLevelOption = LogLevel.ERROR,
) -> None:
    """Send a request of the CSMS to a station and print its answer. Exit code 5: no gateway holds the station; others as of send."""
    urls = broker_urls(amqp_url)
    configure(LogFormat.AUTO, log_level)
    version, request = _request(vendor, message, data, OcppVersion.V2_1)

    async def ask() -> DataTransferResponse:
        async with _client(urls, "dtbridge send-to-station", prefix, timeout) as client:
            return await client.send_to_station(station, request, timeout=timeout)

    _print_answer(ask(), version)


def _request(
    vendor: str, message: str | None, data: str | None, ocpp_version: str
) -> tuple[OcppVersion, DataTransferRequest]:
    """What the command line asks for. A fault of it is told apart from the other side's CALLERROR."""
    try:
        version = parse_version(ocpp_version)
        request = DataTransferRequest(vendor, message)
        if data is not None:
            orjson.loads(data)  # it says best what is wrong; what is sent are the very words
            request.data = msgspec.Raw(data.encode())
        encode_request(request, version)
    except orjson.JSONDecodeError as error:
        fail(f"--data is not JSON: {error}", EXIT_USAGE)
    except CallError as error:
        fail(f"this is no request: {error.description}", EXIT_USAGE)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    return version, request


def _client(urls: list[URL], name: str, prefix: str, timeout: float) -> Client:
    transport = RabbitTransport(urls, name=name, start_timeout=min(timeout, 5.0))
    return Client(contract=Contract(Names(prefix)), transport=transport)


def _print_answer(asking: Coroutine[Any, Any, DataTransferResponse], version: OcppVersion) -> None:
    """Or end the command with what came in its place."""
    try:
        response = complete(asking)
    except CallError as error:
        _print_json(
            {
                "errorCode": error.for_version(version),
                "errorDescription": error.description,
                "errorDetails": error.details,
            }
        )
        raise typer.Exit(EXIT_CALL_ERROR) from None
    except NoAnswer as error:
        fail(str(error), EXIT_NO_ANSWER)
    except StationOffline as error:
        fail(str(error), EXIT_STATION_OFFLINE)
    except TransportError as error:
        fail(str(error))
    _print_json(response)


def _print_json(value: Any) -> None:
    exact = msgspec.json.encode(value)
    typer.echo(msgspec.json.format(exact, indent=2).decode())


# ---- check ----


@app.command()
def check(targets: Targets) -> None:
    """List the handlers with the types of their data. Needs no broker."""
    routers = _routers(targets)
    names = Names()
    table = rich.table.Table("vendor", "message", "data", "kind", "timeout", "handler", "queue")
    for router in routers:
        for message, handler in router.handlers():
            kind = "async" if handler.is_async else "thread"
            queue = names.vendor_queue(router.vendor_id)
            table.add_row(
                router.vendor_id, message, handler.type_name, kind, f"{handler.timeout:g} s", handler.name, queue
            )
        if not any(router.handlers()):
            table.add_row(router.vendor_id, "(no handlers)", "", "", "", "", names.vendor_queue(router.vendor_id))
    console = rich.console.Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)


# ---- demo ----


@app.command()
def demo(
    amqp_url: Annotated[
        str | None, typer.Option(envvar="DTBRIDGE_AMQP_URL", help="A broker to use; else one is found, or started.")
    ] = None,
    count: Annotated[int, typer.Option(envvar="DTBRIDGE_COUNT", min=0, help="Requests of the burst.")] = 2000,
    pace: Annotated[float, typer.Option(envvar="DTBRIDGE_PACE", min=0, help="Seconds between single messages.")] = 0.05,
) -> None:
    """Play real vendor messages between charging stations, a gateway, a real RabbitMQ and a worker, and leave nothing behind."""
    if importlib.util.find_spec("websockets") is None:
        fail("the demo needs the extra: pip install 'datatransfer-bridge[gateway]'", EXIT_USAGE)
    from bridge.demo import run_demo  # noqa: PLC0415 - brings a corpus of messages with it

    configure(LogFormat.AUTO, LogLevel.ERROR)
    raise typer.Exit(run_demo(amqp_url, count, pace))


def main() -> None:
    """The console script."""
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except typer.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except _UsageError as error:
        typer.echo(f"dtbridge: {error.format_message()}", err=True)
        sys.exit(EXIT_USAGE)
