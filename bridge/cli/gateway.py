"""``dtbridge gateway``: the WebSocket connections of charging stations."""

import contextlib
import gc
import importlib.util
import math
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bridge.cli.addresses import parse_listen
from bridge.cli.advice import with_advice
from bridge.cli.assembly import make_gateway_link
from bridge.cli.banner import announce_gateway
from bridge.cli.config_file import read_from
from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.fleet import START_MARGIN, all_that_are_reached, supervise
from bridge.cli.observing import BlockedAfter, HttpOption, observing_gateway, open_listener
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
    finite,
    words,
)
from bridge.cli.process import FAREWELL, KILL_MARGIN, complete, on_signals
from bridge.cli.routers import hook_or_fail
from bridge.cli.secrets import file_variable, secret
from bridge.cli.shared_port import can_be_shared, hold_port
from bridge.cli.supervisor import Start
from bridge.cli.tracing import tracing
from bridge.dialects.names import PREFIX
from bridge.dialects.permissions import Role
from bridge.dialects.topology import Mode
from bridge.gateway.websocket.certificates import Certificates, TlsVersion
from bridge.gateway.websocket.handshake import ID
from bridge.gateway.websocket.passwords import PasswordFile, Passwords, SharedPassword
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.ocpp import OcppVersion, parse_version
from bridge.rabbitmq.transport import START_TIMEOUT
from bridge.rabbitmq.urls import HostOrder
from bridge.telemetry.blocked import BLOCKED_AFTER
from bridge.telemetry.logs import LogFormat, LogLevel, configure, get_logger, name_process
from bridge.transport import TransportError

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

log = get_logger("bridge.gateway")

DEFAULTS: Final = GatewaySettings()
GENERATIONS: Final = (10_000, 10, 100)
"""What Python's collector waits for (gc.set_threshold): a message leaves no garbage that it has to
find, and each time that it looks at everything, it looks at all that the stations have."""
OTHER_FILES: Final = 100
"""File descriptors that are not for stations: the broker's connections, the log, what listens."""
NOT_SHARED: Final = (
    "--processes above 1 needs Linux, which alone shares connections out among the processes that "
    "listen on a port"
)
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
"""Segments of characters that need no encoding in a URL (RFC 3986 §2.3)."""
_PATTERN: Final = re.compile(r"(/([A-Za-z0-9._~-]+|\*|\{id\}))+/?")


def _versions(texts: list[str]) -> list[OcppVersion]:
    try:
        return [parse_version(text) for text in words(texts)] or list(DEFAULTS.versions)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)


def _pattern(pattern: str, path: str) -> str:
    if path:
        fail("--path and --path-pattern exclude each other", EXIT_USAGE)
    if not _PATTERN.fullmatch(pattern) or ID not in pattern.split("/"):
        fail(
            f"--path-pattern {pattern!r} is no pattern: expected something like /*/{ID}", EXIT_USAGE
        )
    return pattern


def _tls(
    cert: Path | None,
    key: Path | None,
    client_ca: Path | None = None,
    ciphers: str | None = None,
    least: TlsVersion = TlsVersion.V1_2,
) -> Certificates | None:
    """TLS as OCPP's security profile 2 demands it; None without a certificate and a key."""
    if cert is None and key is None:
        if client_ca is not None or ciphers is not None:
            fail("--tls-client-ca and --tls-ciphers need --tls-cert and --tls-key", EXIT_USAGE)
        return None
    if cert is None or key is None:
        fail("--tls-cert and --tls-key go together", EXIT_USAGE)
    try:
        return Certificates(cert, key, client_ca, ciphers=ciphers, least=least)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)


def _passwords(shared: str | None, file: Path | None) -> Passwords | None:
    if shared is not None and file is not None:
        fail("--station-password and --password-file exclude each other", EXIT_USAGE)
    if shared is not None:
        known = secret(shared, "the stations' password")
        if not known:
            fail("--station-password is empty", EXIT_USAGE)
        return SharedPassword(known.encode())
    if file is None:
        return None
    try:
        return PasswordFile(file)
    except (OSError, ValueError) as error:
        fail(f"the password file {file} cannot be read: {error}", EXIT_USAGE)


def _allow_files(connections: int) -> None:
    """Raise the process's limit of file descriptors to what so many stations need.

    It is often 1,024, which is not many stations. Warns if it may not be raised far enough.
    """
    if sys.platform == "win32":
        return
    import resource

    needed = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning(
            "few file descriptors",
            allowed=allowed,
            needed=needed,
            reason=f"--max-connections {connections}",
        )


def share_of(connections: int, processes: int) -> int:
    """How many of so many connections one of the processes may have."""
    return math.ceil(connections / processes)


def _cannot_listen(listen: str, error: OSError) -> str:
    return f"cannot listen on {listen}: {error.strerror or error}"


def _none_or_one_a_second(rate: float) -> float:
    """Checks how often a station is read: one that is read more seldom would seem to be silent."""
    if rate and not 1 <= rate < math.inf:
        raise typer.BadParameter("expected 0, for no bound, or at least 1")
    return rate


def gateway(
    listen: Annotated[
        str,
        typer.Option(
            envvar="DTBRIDGE_LISTEN", help="HOST:PORT for stations; :PORT is every interface."
        ),
    ] = f"{DEFAULTS.host}:{DEFAULTS.port}",
    path: Annotated[
        str,
        typer.Option(
            envvar="DTBRIDGE_PATH", help="What stands before the station's id in the URL: /ocpp."
        ),
    ] = DEFAULTS.path,
    path_pattern: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_PATH_PATTERN",
            help="The whole path instead: {id} is the station's id (or a part of it), * any "
            "segment: /*/{id}.",
        ),
    ] = None,
    amqp_url: AmqpUrl = LOCAL,
    host_order: HostOrderOption = HostOrder.RANDOM,
    topology: Annotated[
        Mode,
        typer.Option(
            envvar="DTBRIDGE_TOPOLOGY",
            help="declare: create exchanges that are missing; verify: fail if they are; "
            "none: trust.",
        ),
    ] = Mode.DECLARE,
    prefix: Prefix = PREFIX,
    ocpp_versions: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_OCPP_VERSIONS",
            help="Versions that are spoken, the preferred one first.  "
            f"[default: {' '.join(DEFAULTS.versions)}]",
            show_default=False,
        ),
    ] = NONE_GIVEN,
    default_version: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_DEFAULT_VERSION",
            help="Version that is spoken with stations that offer none; else they are closed.",
        ),
    ] = None,
    station_password: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_STATION_PASSWORD",
            callback=file_variable,
            help="One password for every station, or @FILE that holds it. For labs.",
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            envvar="DTBRIDGE_PASSWORD_FILE",
            help="Lines of STATION_ID:HASH, as `dtbridge password` prints.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="DTBRIDGE_TLS_CERT", help="Certificate chain, PEM: stations connect by wss://."
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="DTBRIDGE_TLS_KEY", help="Its private key, PEM.")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="DTBRIDGE_TLS_CLIENT_CA",
            help="Certificate authorities, PEM, of the stations' certificates, which are required "
            "then and name the station's id.",
        ),
    ] = None,
    tls_ciphers: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_TLS_CIPHERS",
            help="Cipher suites of TLS 1.2, as OpenSSL lists them.",
        ),
    ] = None,
    tls_min_version: Annotated[
        TlsVersion,
        typer.Option(envvar="DTBRIDGE_TLS_MIN_VERSION", help="The least version of TLS."),
    ] = TlsVersion.V1_2,
    call_timeout: Annotated[
        float,
        typer.Option(
            envvar="DTBRIDGE_CALL_TIMEOUT",
            min=0.001,
            callback=finite,
            help="Seconds until a station's DataTransfer is answered with a CALLERROR.",
        ),
    ] = DEFAULTS.call_timeout,
    heartbeat_interval: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_HEARTBEAT_INTERVAL",
            min=1,
            help="Seconds between Heartbeats, as stations are told.",
        ),
    ] = DEFAULTS.heartbeat_interval,
    boot_hook: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_BOOT_HOOK",
            metavar="MODULE:NAME",
            help="A function from Boot to BootAnswer: how a station that boots is answered.",
        ),
    ] = None,
    ping_interval: Annotated[
        float,
        typer.Option(
            envvar="DTBRIDGE_PING_INTERVAL",
            min=0.1,
            callback=finite,
            help="Seconds between WebSocket pings.",
        ),
    ] = DEFAULTS.ping_interval,
    ping_timeout: Annotated[
        float,
        typer.Option(
            envvar="DTBRIDGE_PING_TIMEOUT",
            min=0.1,
            callback=finite,
            help="Seconds for the pong, after which the station is dropped.",
        ),
    ] = DEFAULTS.ping_timeout,
    handshake_timeout: Annotated[
        float,
        typer.Option(
            envvar="DTBRIDGE_HANDSHAKE_TIMEOUT",
            min=0.1,
            callback=finite,
            help="Seconds for TLS, and for HTTP.",
        ),
    ] = DEFAULTS.handshake_timeout,
    max_message: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_MAX_MESSAGE", min=1024, help="Bytes of a message at most, both ways."
        ),
    ] = DEFAULTS.max_message,
    max_rate: Annotated[
        float,
        typer.Option(
            envvar="DTBRIDGE_MAX_RATE",
            min=0,
            callback=_none_or_one_a_second,
            help="Messages of one station in a second; what is beyond is read later. 0: no bound.",
        ),
    ] = DEFAULTS.max_rate,
    max_connections: Annotated[
        int, typer.Option(envvar="DTBRIDGE_MAX_CONNECTIONS", min=1, help="Connections at a time.")
    ] = DEFAULTS.max_connections,
    max_per_address: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_MAX_PER_ADDRESS",
            min=1,
            help="Connections at a time of one IPv4 address or IPv6 /64.",
        ),
    ] = DEFAULTS.max_per_address,
    allow_origin: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_ALLOW_ORIGIN",
            help="Web pages that may connect as stations: https://HOST; * is any.  [default: none]",
            show_default=False,
        ),
    ] = NONE_GIVEN,
    drain_timeout: DrainTimeout = DEFAULTS.drain_timeout,
    connect_timeout: ConnectTimeout = START_TIMEOUT,
    processes: Annotated[
        int,
        typer.Option(
            envvar="DTBRIDGE_PROCESSES",
            min=1,
            help="Gateways side by side on one port; each uses one core (Linux).",
        ),
    ] = 1,
    http: HttpOption = None,
    blocked_after: BlockedAfter = BLOCKED_AFTER,
    name: ConnectionName = "dtbridge gateway",
    log_format: LogFormatOption = LogFormat.AUTO,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Hold the WebSocket connections of charging stations, until SIGTERM, SIGINT or SIGHUP."""
    if importlib.util.find_spec("websockets") is None:
        fail("the gateway needs the extra: pip install 'datatransfer-bridge[gateway]'", EXIT_USAGE)
    from bridge.gateway.websocket.metrics import gateway_registry
    from bridge.gateway.websocket.server import Gateway

    start = Start.of_this_process()
    try:
        host, port = parse_listen(listen)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    if processes > 1 and not can_be_shared():
        fail(NOT_SHARED, EXIT_USAGE)
    if not _PATH.fullmatch(path):
        fail(f"--path {path!r} is no path: expected something like /ocpp", EXIT_USAGE)
    if path_pattern is not None:
        path = _pattern(path_pattern, path)
    settings = GatewaySettings(
        host=host,
        port=port if start.port is None else start.port,
        reuse_port=start.port is not None,
        path=path.rstrip("/"),
        versions=_versions(ocpp_versions),
        default_version=next(iter(_versions([default_version])), None) if default_version else None,
        tls=_tls(tls_cert, tls_key, tls_client_ca, tls_ciphers, tls_min_version),
        call_timeout=call_timeout,
        heartbeat_interval=heartbeat_interval,
        on_boot=None if boot_hook is None else hook_or_fail(boot_hook),
        max_message=max_message,
        max_rate=max_rate,
        max_connections=share_of(max_connections, processes),
        max_per_address=max_per_address,
        allowed_origins=words(allow_origin),
        handshake_timeout=handshake_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        drain_timeout=drain_timeout,
    )
    passwords = _passwords(station_password, password_file)
    urls = broker_urls(amqp_url)
    if start.number is not None:
        name_process(start.number)
    configure(log_format, log_level)
    listener = open_listener(http, start)
    announce = partial(announce_gateway, urls, processes=processes, http=http, config=read_from())
    # Stations are bidden farewell before the broker is, for as long.
    patience = drain_timeout + 2 * FAREWELL
    if processes > 1 and not start.is_child:
        announce()
        with contextlib.ExitStack() as held:
            try:
                port = held.enter_context(hold_port(host, port))
            except OSError as error:
                fail(_cannot_listen(listen, error))
            code = supervise(
                start.on_port(port),
                processes,
                connect_timeout + START_MARGIN,
                patience=patience + KILL_MARGIN,
                listener=listener,
                what="gateway",
                ready=all_that_are_reached,
            )
        raise typer.Exit(code)
    _allow_files(settings.max_connections)

    async def work(provider: "TracerProvider | None") -> None:
        link = make_gateway_link(
            urls,
            prefix=prefix,
            mode=topology,
            start_timeout=connect_timeout,
            host_order=host_order,
            name=name,
            tracer_provider=provider,
        )
        server = Gateway(link, settings, passwords)
        registry = gateway_registry(server, link)
        if not start.is_child:
            announce()
        gc.set_threshold(*GENERATIONS)
        gc.freeze()  # what the imports made stays: the collector need not look at it again
        async with observing_gateway(listener, link, server, blocked_after, registry), link:
            on_signals(server.stop, patience)
            await server.run()

    try:
        with tracing("dtbridge-gateway") as provider:
            complete(work(provider))
    except TransportError as error:
        declares = topology is Mode.DECLARE
        fail(
            with_advice(error, Role.GATEWAY, declaring=Role.GATEWAY_DECLARING if declares else None)
        )
    except OSError as error:
        fail(_cannot_listen(listen, error))
