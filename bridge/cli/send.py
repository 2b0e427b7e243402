"""``dtbridge send`` and ``send-to-station``: one request, and its answer as JSON."""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from yarl import URL

from bridge.cli.advice import with_advice
from bridge.cli.assembly import make_client
from bridge.cli.data_option import read_data
from bridge.cli.exits import EXIT_CALL_ERROR, EXIT_NO_ANSWER, EXIT_STATION_OFFLINE, EXIT_USAGE, fail
from bridge.cli.options import (
    LOCAL,
    AmqpUrl,
    LogLevelOption,
    Prefix,
    broker_urls,
    finite,
)
from bridge.cli.output import say
from bridge.cli.process import complete
from bridge.cli.tables import json_text
from bridge.cli.tracing import tracing
from bridge.client.client import Client
from bridge.client.errors import NoAnswer, NotAccepted, StationOffline, no_queue
from bridge.client.limits import check_station_id
from bridge.client.requester import TIMEOUT
from bridge.dialects.names import PREFIX
from bridge.dialects.permissions import Role
from bridge.ocpp import (
    DEFAULT_VERSION,
    CallError,
    DataTransferRequest,
    DataTransferResponse,
    OcppVersion,
    encode_request,
    parse_version,
)
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.transport import TransportError

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

CONNECT_WITHIN: Final = 5.0
"""Seconds at most to find a broker: a person is waiting."""

_UNANSWERED: Final = (
    "; does a worker run that handles it? `dtbridge top` shows them, and `dtbridge dead list` what "
    "they could not handle"
)
_NO_QUEUE: Final = " A worker does it when it starts: `dtbridge run MODULE:NAME`"

Vendor = Annotated[str, typer.Option(envvar="DTBRIDGE_VENDOR", help="vendorId.")]
Message = Annotated[str | None, typer.Option(envvar="DTBRIDGE_MESSAGE", help="messageId.")]
Data = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_DATA",
        help="data, as JSON; @FILE: what a file holds; -: what comes from standard input.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        envvar="DTBRIDGE_TIMEOUT",
        min=0.001,
        callback=finite,
        help="Seconds to wait for the answer.",
    ),
]


def send(
    station: Annotated[
        str, typer.Option(envvar="DTBRIDGE_STATION", help="The charging station to speak for.")
    ],
    vendor: Vendor,
    message: Message = None,
    data: Data = None,
    ocpp_version: Annotated[
        str,
        typer.Option(
            envvar="DTBRIDGE_OCPP_VERSION", help="ocpp1.6, ocpp2.0, ocpp2.0.1 or ocpp2.1."
        ),
    ] = DEFAULT_VERSION.value,
    timeout: Timeout = TIMEOUT,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.ERROR,
) -> None:
    """Send a request of a station and print its answer as JSON. Exit code 0: a response, 3: a
    CALLERROR, 4: no answer in time.
    """
    urls = broker_urls(amqp_url)
    configure(LogFormat.AUTO, log_level)
    version, request = _request(station, vendor, message, data, ocpp_version)

    async def ask(provider: "TracerProvider | None") -> DataTransferResponse:
        async with _client(urls, "dtbridge send", prefix, timeout, provider) as client:
            await client.connect()
            return await client.data_transfer(
                station, request, ocpp_version=version, timeout=timeout
            )

    _print_answer(ask, version, unanswered=_UNANSWERED)


def send_to_station(
    station: Annotated[
        str, typer.Option(envvar="DTBRIDGE_STATION", help="The charging station to ask.")
    ],
    vendor: Vendor,
    message: Message = None,
    data: Data = None,
    timeout: Timeout = TIMEOUT,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.ERROR,
) -> None:
    """Send a request of the CSMS to a station and print its answer. Exit code 5: no gateway holds
    the station; others as of send.
    """
    urls = broker_urls(amqp_url)
    configure(LogFormat.AUTO, log_level)
    version, request = _request(station, vendor, message, data, OcppVersion.V2_1)

    async def ask(provider: "TracerProvider | None") -> DataTransferResponse:
        async with _client(urls, "dtbridge send-to-station", prefix, timeout, provider) as client:
            await client.connect()
            return await client.send_to_station(station, request, timeout=timeout)

    _print_answer(ask, version)


def _request(
    station: str, vendor: str, message: str | None, data: str | None, ocpp_version: str
) -> tuple[OcppVersion, DataTransferRequest]:
    """What the command line asks for. Ends the command if that cannot be sent.

    This is checked first, so that it is not taken for a CALLERROR of the other side.
    """
    try:
        check_station_id(station)
        version = parse_version(ocpp_version)
        request = DataTransferRequest(vendor, message)
        if data is not None:
            request.data = msgspec.Raw(read_data(data))
        encode_request(request, version)
    except CallError as error:
        fail(f"this is no request: {error.description}", EXIT_USAGE)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    return version, request


def _client(
    urls: Sequence[URL], name: str, prefix: str, timeout: float, provider: "TracerProvider | None"
) -> Client:
    return make_client(
        urls,
        prefix=prefix,
        start_timeout=min(timeout, CONNECT_WITHIN),
        name=name,
        tracer_provider=provider,
    )


def _print_answer(
    ask: "Callable[[TracerProvider | None], Coroutine[Any, Any, DataTransferResponse]]",
    version: OcppVersion,
    *,
    unanswered: str = "",
) -> None:
    """Print the answer as JSON, or end the command with what came in its place.

    `unanswered`: what to do if nothing came, as a clause.
    """
    try:
        with tracing("dtbridge-send") as provider:
            response = complete(ask(provider))
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
        fail(f"{error}{unanswered}", EXIT_NO_ANSWER)
    except StationOffline as error:
        fail(str(error), EXIT_STATION_OFFLINE)
    except NotAccepted as error:
        fail(f"{error}{_NO_QUEUE}" if str(error) == str(no_queue()) else str(error))
    except TransportError as error:
        fail(with_advice(error, Role.CLIENT))
    _print_json(response)


def _print_json(value: Any) -> None:
    say(json_text(value, indent=2))
