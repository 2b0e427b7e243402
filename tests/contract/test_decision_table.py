"""What a request gets, row by row, in OCPP 1.6, 2.0.1 and 2.1, from a worker on each broker.

Each row says what happens, what is sent, what comes back and where the request ends. Every row is
played once for each version.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from bridge import Call, CallError, DataTransferResponse, Rejected, Retry, Router, StatusInfo
from bridge.dialects.names import vendor_key
from bridge.dialects.native import Native
from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Store
from bridge.ocpp import OcppVersion
from bridge.request.retry import RetryPolicy
from bridge.transport import Properties, Publishing, State, Transport
from bridge.worker.dispatch import Expired
from bridge.worker.worker import Settings, Worker
from tests.contract.sides import NAMES, PATIENCE, Received, Side

V16, V201, V21 = VERSIONS = (OcppVersion.V1_6, OcppVersion.V2_0_1, OcppVersion.V2_1)
REPLIES = "datatransfer.replies.gateway"
TIMEOUT = 0.05
"""Seconds that the handler may take which is to run out of them."""


class Tariff(msgspec.Struct):
    price: float
    currency: str = "EUR"


# ---- the handlers ----

acme = Router("com.Acme")


@acme.on("SetTariff")
async def set_tariff(call: Call, data: Tariff) -> Tariff:
    return Tariff(data.price * 2, data.currency)


@acme.on("Nothing")
async def nothing(call: Call) -> None: ...


@acme.on("Plain")
def plain(call: Call, data: str) -> str:
    return data.upper()


@acme.on("Verbatim")
async def verbatim(call: Call, data: msgspec.Raw) -> msgspec.Raw:
    return data


@acme.on("Response")
async def response(call: Call) -> DataTransferResponse:
    return DataTransferResponse("Rejected", "text", StatusInfo("Own", "words"))


@acme.on("InvalidResponse")
async def invalid_response(call: Call) -> DataTransferResponse:
    return DataTransferResponse("accepted")


@acme.on("Reject")
async def reject(call: Call) -> None:
    raise Rejected("NoTariff", "there is none")


@acme.on("RejectWithoutReason")
async def reject_without_reason(call: Call) -> None:
    raise Rejected


@acme.on("Refuse")
async def refuse(call: Call) -> None:
    raise CallError("OccurrenceConstraintViolation", "too many", {"most": 3})


@acme.on("RetryOnce")
async def retry_once(call: Call) -> str:
    if call.attempt == 1:
        raise Retry(after=0.01, reason="the database is down")
    return f"at try {call.attempt}"


@acme.on("ConnectOnce", retry=RetryPolicy(first=0.01, on=(ConnectionError,)))
async def connect_once(call: Call) -> str:
    if call.attempt == 1:
        raise ConnectionRefusedError("the database is down")
    return f"at try {call.attempt}"


@acme.on("RetryAlways")
async def retry_always(call: Call) -> None:
    raise Retry(after=0.01, reason=f"down at try {call.attempt}")


@acme.on("RetryTooLate")
async def retry_too_late(call: Call) -> None:
    raise Retry(after=3600, reason="the database is down")


@acme.on("Break")
async def break_(call: Call) -> None:
    raise ValueError("password=secret")


@acme.on("Hang", timeout=TIMEOUT)
async def hang(call: Call) -> None:
    await asyncio.Event().wait()


@acme.on("HangInThread", timeout=TIMEOUT)
def hang_in_thread(call: Call) -> None:
    time.sleep(20 * TIMEOUT)  # an event loop that is held up for longer would see its answer


@acme.on("Outlive")
async def outlive(call: Call) -> str:
    time.sleep((call.remaining or 0.0) + 0.001)  # noqa: ASYNC251 - blocks the loop past its deadline
    return "nobody reads this"


@acme.on("Big")
async def big(call: Call) -> str:
    return "x" * 20_000


@acme.on()
async def without_message_id(call: Call) -> str:
    return "no messageId"


# ---- the table ----


class Row(msgspec.Struct, kw_only=True):
    """A situation and its result. Answers are the same in every version, or given for each."""

    situation: str
    message_id: Any = msgspec.UNSET
    vendor_id: Any = "com.Acme"
    data: Any = msgspec.UNSET
    body: bytes | None = None
    """In place of the three above."""
    headers: dict[str, Any] = {}
    reply_to: str | None = REPLIES
    seconds: float | None = None
    """Until the deadline."""
    settings: Settings = Settings()
    answer: dict[str, Any] | Callable[[OcppVersion], dict[str, Any]] | bytes | None = None
    """The payload of the reply; bytes: exactly these. None: there is no reply."""
    is_error: bool = False
    """The reply is a CALLERROR."""
    dead: bool = False
    """The request ends in the dead-letter queue; else it is acknowledged."""
    reason: str = "failed"
    """Why the bridge keeps the request as a dead letter; "rejected" if the broker itself does."""
    error: str = ""
    """How the error begins that is kept with it."""
    attempts: int = 1
    """Tries it has had by then."""


def error(code: str, description: str, **details: Any) -> Callable[[OcppVersion], dict[str, Any]]:
    """A CALLERROR in the spelling of each version."""
    misspelt = {
        "FormatViolation": "FormationViolation",
        "OccurrenceConstraintViolation": "OccurenceConstraintViolation",
    }

    def answer(version: OcppVersion) -> dict[str, Any]:
        spelled = misspelt.get(code, code) if version is V16 else code
        return {"errorCode": spelled, "errorDescription": description, "errorDetails": details}

    return answer


def rejected(reason: str, info: str) -> Callable[[OcppVersion], dict[str, Any]]:
    """1.6 has no statusInfo."""

    def answer(version: OcppVersion) -> dict[str, Any]:
        if version is V16:
            return {"status": "Rejected"}
        return {"status": "Rejected", "statusInfo": {"reasonCode": reason, "additionalInfo": info}}

    return answer


def accepted(data: Any) -> Callable[[OcppVersion], dict[str, Any]]:
    """1.6 carries structured data as JSON text in a string."""

    def answer(version: OcppVersion) -> dict[str, Any]:
        text = (
            data
            if isinstance(data, str) or version is not V16
            else json.dumps(data, separators=(",", ":"))
        )
        return {"status": "Accepted", "data": text}

    return answer


COULD_NOT = error("InternalError", "The request could not be processed.")
TOO_LONG = error("GenericError", "The request took too long to process.")

TABLE = [
    Row(
        situation="the handler returns a typed value",
        message_id="SetTariff",
        data={"price": 1.5},
        answer=accepted({"price": 3.0, "currency": "EUR"}),
    ),
    Row(
        situation="data comes as JSON text in a string, in any version",
        message_id="SetTariff",
        data='{"price":1.5}',
        answer=accepted({"price": 3.0, "currency": "EUR"}),
    ),
    Row(
        situation="the handler returns nothing",
        message_id="Nothing",
        answer=b'{"status":"Accepted"}',
    ),
    Row(
        situation="a plain function",
        message_id="Plain",
        data="a;b",
        answer=b'{"status":"Accepted","data":"A;B"}',
    ),
    Row(
        situation="a vendor's own keys, nulls and numbers stay as they are",
        message_id="Verbatim",
        body=b'{"vendorId":"com.Acme","messageId":"Verbatim",'
        b'"data":"{ \\"PnCEnabled\\":null, \\"n\\":1e400 }"}',
        answer=b'{"status":"Accepted","data":"{ \\"PnCEnabled\\":null, \\"n\\":1e400 }"}',
    ),
    Row(
        situation="vendorId and messageId in another case",
        vendor_id="COM.ACME",
        message_id="NOTHING",
        answer=b'{"status":"Accepted"}',
    ),
    Row(
        situation="messageId is absent",
        answer=b'{"status":"Accepted","data":"no messageId"}',
    ),
    Row(
        situation="messageId is null",
        message_id=None,
        answer=b'{"status":"Accepted","data":"no messageId"}',
    ),
    Row(
        situation="messageId is empty",
        message_id="",
        answer=b'{"status":"Accepted","data":"no messageId"}',
    ),
    Row(
        situation="an unknown field is ignored",
        body=b'{"vendorId":"com.Acme","messageId":"Nothing","more":1}',
        answer=b'{"status":"Accepted"}',
    ),
    Row(
        situation="an unknown field is refused in strict mode",
        body=b'{"vendorId":"com.Acme","messageId":"Nothing","more":1}',
        settings=Settings(strict=True),
        answer=error("FormatViolation", "more: unknown field"),
        is_error=True,
    ),
    Row(
        situation="the handler returns a response",
        message_id="Response",
        answer=lambda version: {
            "status": "Rejected",
            "data": "text",
            **(
                {}
                if version is V16
                else {"statusInfo": {"reasonCode": "Own", "additionalInfo": "words"}}
            ),
        },
    ),
    Row(
        situation="the handler returns an invalid response",
        message_id="InvalidResponse",
        answer=COULD_NOT,
        is_error=True,
        dead=True,
        error="InvalidResponse: ",
    ),
    Row(
        situation="the answer is too big",
        message_id="Big",
        settings=Settings(max_body=10_000),
        answer=COULD_NOT,
        is_error=True,
        dead=True,
        error="the answer has 20",
    ),
    Row(
        situation="the handler rejects",
        message_id="Reject",
        answer=rejected("NoTariff", "there is none"),
    ),
    Row(
        situation="the handler rejects without a reason",
        message_id="RejectWithoutReason",
        answer=b'{"status":"Rejected"}',
    ),
    Row(
        situation="the handler answers with a CALLERROR of its own",
        message_id="Refuse",
        answer=error("OccurrenceConstraintViolation", "too many", most=3),
        is_error=True,
    ),
    Row(
        situation="no such vendor",
        vendor_id="EN+",
        message_id="m",
        answer=b'{"status":"UnknownVendorId"}',
    ),
    Row(
        situation="no such vendor, 255 emoji",
        vendor_id="🔌" * 255,
        answer=b'{"status":"UnknownVendorId"}',
    ),
    Row(
        situation="no such message",
        message_id="Other",
        data=1,
        answer=b'{"status":"UnknownMessageId"}',
    ),
    Row(
        situation="data does not fit",
        message_id="SetTariff",
        data={"price": "x"},
        answer=rejected("InvalidData", "data.price: expected a number, got a string"),
    ),
    Row(
        situation="data is missing",
        message_id="SetTariff",
        answer=rejected("InvalidData", "data: required and missing"),
    ),
    Row(
        situation="the payload is not JSON",
        body=b'{"vendorId":',
        answer=error("FormatViolation", "payload: not valid JSON (Input data was truncated)"),
        is_error=True,
    ),
    Row(
        situation="a field is missing",
        body=b"{}",
        answer=error("OccurrenceConstraintViolation", "vendorId: required field is missing"),
        is_error=True,
    ),
    Row(
        situation="a field is too long",
        message_id="m" * 51,
        answer=error(
            "PropertyConstraintViolation", "messageId: expected a string of at most 50 characters"
        ),
        is_error=True,
    ),
    Row(
        situation="a field has the wrong type",
        message_id=7,
        answer=error(
            "TypeConstraintViolation", "messageId: expected a string or null, got an integer"
        ),
        is_error=True,
    ),
    Row(
        situation="the payload is too big",
        message_id="Nothing",
        data="x" * 10_000,
        settings=Settings(max_body=10_000),
        answer=error(
            "PropertyConstraintViolation", "payload: 10055 bytes, and at most 10000 are taken"
        ),
        is_error=True,
    ),
    Row(
        situation="a header breaks the contract",
        message_id="Nothing",
        headers={"ocpp-deadline": "soon"},
        answer=error(
            "ProtocolError", "header ocpp-deadline: expected Unix time in milliseconds, an integer"
        ),
        is_error=True,
    ),
    Row(
        situation="the handler asks for another try",
        message_id="RetryOnce",
        seconds=PATIENCE,
        answer=b'{"status":"Accepted","data":"at try 2"}',
    ),
    Row(
        situation="the handler raises what its policy tries again",
        message_id="ConnectOnce",
        seconds=PATIENCE,
        answer=b'{"status":"Accepted","data":"at try 2"}',
    ),
    Row(
        situation="the handler asks for another try, and there is no deadline",
        message_id="RetryOnce",
        answer=b'{"status":"Accepted","data":"at try 2"}',
    ),
    Row(
        situation="the handler asks for another try each time",
        message_id="RetryAlways",
        seconds=PATIENCE,
        settings=Settings(retry=RetryPolicy(attempts=3)),
        answer=COULD_NOT,
        is_error=True,
        dead=True,
        reason="retries-exhausted",
        error="Retry: (0.01, 'down at try 3')",
        attempts=3,
    ),
    Row(
        situation="the same, and nobody waits",
        message_id="RetryAlways",
        reply_to=None,
        settings=Settings(retry=RetryPolicy(attempts=2)),
        dead=True,
        reason="retries-exhausted",
        error="Retry: (0.01, 'down at try 2')",
        attempts=2,
    ),
    Row(
        situation="the handler asks for another try after the deadline",
        message_id="RetryTooLate",
        seconds=PATIENCE,
        answer=COULD_NOT,
        is_error=True,
        dead=True,
        reason="retries-exhausted",
        error="Retry: (3600, 'the database is down')",
    ),
    Row(
        situation="the handler breaks",
        message_id="Break",
        answer=COULD_NOT,
        is_error=True,
        dead=True,
        error="ValueError: password=secret",
    ),
    Row(
        situation="the handler takes too long",
        message_id="Hang",
        answer=TOO_LONG,
        is_error=True,
        dead=True,
        reason="timed-out",
        error="TimeoutError: tests.contract.test_decision_table.hang took longer than 0.05 s",
    ),
    Row(
        situation="a thread takes too long",
        message_id="HangInThread",
        answer=TOO_LONG,
        is_error=True,
        dead=True,
        reason="timed-out",
        error="TimeoutError: tests.contract.test_decision_table.hang_in_thread took longer",
    ),
    Row(
        situation="the deadline is past before handling",
        message_id="Break",
        seconds=-1,
        dead=True,
        reason="rejected",
    ),
    Row(
        situation="the same, to be dropped",
        message_id="Break",
        seconds=-1,
        settings=Settings(expired=Expired.DROP),
    ),
    Row(
        situation="the same, to be handled all the same",
        message_id="Plain",
        data="late",
        seconds=-1,
        settings=Settings(expired=Expired.HANDLE),
    ),
    Row(situation="the deadline is past after handling", message_id="Outlive", seconds=0.3),
    Row(
        situation="a deadline beyond what an expiration can say",
        message_id="Nothing",
        seconds=2.0**50,
        answer=b'{"status":"Accepted"}',
    ),
    Row(situation="nobody waits", message_id="Nothing", reply_to=None),
    Row(
        situation="nobody waits, and the handler breaks",
        message_id="Break",
        reply_to=None,
        dead=True,
        error="ValueError: password=secret",
    ),
    Row(
        situation="nobody waits, and the payload is broken",
        body=b"{",
        reply_to=None,
        dead=True,
        reason="broken",
        error="CallError: FormatViolation: payload: not valid JSON",
    ),
    Row(situation="reply_to is not allowed", message_id="Nothing", reply_to="somebody-elses-queue"),
    Row(
        situation="reply_to is the vendor's own queue",
        message_id="Nothing",
        reply_to="datatransfer.com.acme",
    ),
    Row(situation="the reply queue is gone", message_id="Nothing", reply_to="amq.gen-gone"),
    Row(
        situation="the reply queue is gone, and the handler breaks",
        message_id="Break",
        reply_to="amq.gen-gone",
        dead=True,
        error="ValueError: password=secret",
    ),
]


# ---- playing it ----


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a worker shows and does not announce."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def working(
    side: Side, settings: Settings, *routers: Router, store: Store | None = None
) -> AsyncIterator[tuple[Worker, Transport]]:
    """A worker that runs, and has settled everything when it ends."""
    transport = side.transport()
    worker = Worker(routers, transport, settings=settings, store=store)
    running = asyncio.create_task(worker.run())
    try:
        await until(lambda: worker.state is State.CONSUMING or running.done())
        yield worker, transport
    finally:
        worker.stop()
        assert await running == 0, "requests were left unsettled"


def request(row: Row, version: OcppVersion) -> Publishing:
    """As a gateway in any language makes it."""
    fields = {"vendorId": row.vendor_id, "messageId": row.message_id, "data": row.data}
    body = row.body or msgspec.json.encode(
        {name: value for name, value in fields.items() if value is not msgspec.UNSET}
    )
    headers = {
        "ocpp-station-id": "CP001",
        "ocpp-version": version.value,
        "own": "stays here",
        **row.headers,
    }
    if row.seconds is not None:
        headers["ocpp-deadline"] = int((time.time() + row.seconds) * 1000)
    properties = Properties(
        content_type="application/json",
        headers=headers,
        delivery_mode=2,
        correlation_id=f"correlation of {version}",
        reply_to=row.reply_to,
        message_id="19223201",
        type="DataTransfer",
    )
    vendor_id = row.vendor_id if isinstance(row.vendor_id, str) else ""
    return Publishing(vendor_key(vendor_id), body, properties, NAMES.requests)


def check_reply(reply: Received, row: Row, version: OcppVersion) -> None:
    expected = row.answer(version) if callable(row.answer) else row.answer
    if isinstance(expected, bytes):
        assert reply.body == expected
    else:
        assert json.loads(reply.body) == expected
    properties = reply.properties
    assert properties.type == ("CallError" if row.is_error else "DataTransferResponse")
    assert properties.content_type == "application/json"
    assert properties.correlation_id == f"correlation of {version}"
    assert properties.headers == {"ocpp-station-id": "CP001"}
    assert (properties.reply_to, properties.user_id, properties.message_id) == (None, None, None)
    if row.seconds is None:
        assert properties.expiration is None
    else:
        assert 0 < int(properties.expiration or 0) <= row.seconds * 1000


def check_dead_letter(
    dead: Received, row: Row, version: OcppVersion, asked: Publishing, since: float
) -> None:
    """The request as it was, and its story in headers."""
    assert dead.body == asked.body
    given = asked.properties
    assert dead.properties == msgspec.structs.replace(given, headers=dead.properties.headers)
    headers = dict(dead.headers)
    if row.reason == "rejected":
        assert headers["x-first-death-reason"] == "rejected"
        assert {name: headers.get(name) for name in given.headers or {}} == given.headers
        assert not any(name.startswith("dtbridge-") for name in headers)
        return
    first_try, failed_at = headers.pop("dtbridge-first-try"), headers.pop("dtbridge-failed-at")
    assert since * 1000 - 1 <= first_try <= failed_at <= time.time() * 1000 + 1
    if row.attempts > 1:
        assert failed_at - first_try >= 99 * (row.attempts - 1)
    error = headers.pop("dtbridge-error")
    assert error.startswith(row.error)
    assert row.error
    assert re.fullmatch(r"dtbridge@.+:\d+", headers.pop("dtbridge-worker"))
    unreadable = row.reason == "broken"
    assert headers == {
        **(given.headers or {}),
        "dtbridge-reason": row.reason,
        "dtbridge-attempt": row.attempts,
        "dtbridge-vendor": "" if unreadable else "com.Acme",
        "dtbridge-message": "" if unreadable else row.message_id,
        "dtbridge-exchange": "datatransfer",
        "dtbridge-routing-key": "com.acme",
    }


async def settled(worker: Worker, count: int) -> None:
    """Wait until so many requests have had their outcome."""
    await until(
        lambda: (
            worker.counts.received >= count
            and not any(intake.running or intake.waiting for intake in worker.intakes)
        )
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.situation)
async def test_what_a_request_gets(side: Side, row: Row) -> None:
    await side.declare("com.Acme")
    for queue in (REPLIES, "somebody-elses-queue"):
        await side.make_queue(queue)
    async with working(side, row.settings, acme) as (worker, _):
        for number, version in enumerate(VERSIONS, 1):
            publishing = request(row, version)
            since = time.time()
            await side.put(publishing)
            if row.answer is not None:
                check_reply(await side.take(REPLIES), row, version)
            if row.dead:
                check_dead_letter(await side.take(NAMES.dead), row, version, publishing, since)
            await settled(worker, number)
    for queue in (
        NAMES.vendor_queue("com.Acme"),
        NAMES.unknown_vendor,
        NAMES.dead,
        NAMES.retry(0.1),
        REPLIES,
        "somebody-elses-queue",
    ):
        assert await side.left(queue) == 0, f"something is left in {queue}"


# ---- the same request again ----


def counting(reply: Callable[[], Any] = lambda: "done") -> tuple[Router, list[Call], asyncio.Event]:
    """A handler that notes its calls, and waits until it may go on."""
    router = Router("com.Acme")
    calls: list[Call] = []
    go_on = asyncio.Event()

    @router.default
    async def handler(call: Call) -> Any:
        calls.append(call)
        await go_on.wait()
        return reply()

    return router, calls, go_on


def same(number: int, *, vendor_id: str = "com.Acme", **fields: Any) -> Publishing:
    """A request that comes once more on its connection, under another correlation_id."""
    row = Row(
        situation="again",
        vendor_id=vendor_id,
        message_id="m",
        data=fields.pop("data", 1),
        headers=fields.pop("own", {"ocpp-connection-id": "c-1"}),
    )
    asked = request(row, V201)
    return msgspec.structs.replace(
        asked,
        properties=msgspec.structs.replace(asked.properties, correlation_id=str(number), **fields),
    )


async def test_a_request_that_comes_again_is_given_the_stored_reply_and_not_handled_twice(
    side: Side,
) -> None:
    await side.declare("com.Acme")
    await side.make_queue(REPLIES)
    router, calls, go_on = counting()
    go_on.set()
    async with working(side, Settings(), router, store=MemoryStore()) as (worker, _):
        for number in range(3):
            await side.put(same(number))
            reply = await side.take(REPLIES)
            assert (reply.body, reply.properties.correlation_id) == (
                b'{"status":"Accepted","data":"done"}',
                str(number),
            )
        assert len(calls) == 1
        # Another message id, another payload, no message id: another request each.
        for other in (
            same(3, message_id="other"),
            same(4, data=2),
            same(5, message_id=None),
            same(6, message_id=None),
        ):
            await side.put(other)
            await side.take(REPLIES)
        assert len(calls) == 5
        assert (worker.counts.absorbed, worker.counts.replied) == (2, 7)


@pytest.mark.parametrize(
    "own",
    [
        lambda number: {"ocpp-connection-id": f"c-{number}"},
        lambda number: {"ocpp-deadline": int((time.time() + 60) * 1000) + number},
        lambda _: {},
    ],
    ids=["another connection", "another deadline", "nothing said"],
)
async def test_an_id_that_a_later_connection_uses_again_is_a_new_request(
    side: Side, own: Callable[[int], dict[str, Any]]
) -> None:
    await side.declare("com.Acme")
    await side.make_queue(REPLIES)
    router, calls, go_on = counting(lambda: len(calls))
    go_on.set()
    async with working(side, Settings(), router, store=MemoryStore()) as (worker, _):
        for number in range(1, 4):
            await side.put(same(0, own=own(number)))
            reply = await side.take(REPLIES)
            assert reply.body == b'{"status":"Accepted","data":%d}' % number
        assert worker.counts.absorbed == 0


async def test_a_message_that_its_gateway_publishes_again_is_absorbed(side: Side) -> None:
    await side.declare("com.Acme")
    await side.make_queue(REPLIES)
    router, calls, go_on = counting()
    go_on.set()
    own = {"ocpp-deadline": int((time.time() + 60) * 1000)}
    async with working(side, Settings(), router, store=MemoryStore()) as (worker, _):
        for reply_to in (REPLIES, REPLIES, f"{REPLIES}.next"):
            await side.make_queue(reply_to)
            await side.put(same(0, own=own, reply_to=reply_to))
            await side.take(reply_to)
        assert len(calls) == 1
        assert worker.counts.absorbed == 2


async def test_a_sender_that_the_broker_knows_is_given_nobody_elses_reply(side: Side) -> None:
    await side.declare("com.Acme")
    await side.make_queue(REPLIES)
    router = Router("com.Acme")
    seen: list[str | None] = []

    @router.default
    async def handler(call: Call) -> None:
        seen.append(call.user_id)

    async with working(side, Settings(), router, store=MemoryStore()):
        for user_id, runs in (("guest", 1), (None, 2), ("guest", 2), (None, 2)):
            await side.put(same(0, user_id=user_id))
            await side.take(REPLIES)
            assert len(seen) == runs
        assert seen == ["guest", None]


async def test_large_requests_that_there_is_no_room_for_wait_in_their_queue_and_are_answered(
    side: Side,
) -> None:
    await side.declare("com.Acme")
    await side.make_queue(REPLIES)
    router = Router("com.Acme")
    running = most = 0

    @router.default
    async def handler(call: Call, data: str) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return len(data)

    async with working(side, Settings(max_bytes=250_000), router, store=MemoryStore()):
        for number in range(12):
            await side.put(same(number, data="x" * 100_000, message_id=str(number)))
        replies = [await side.take(REPLIES) for _ in range(12)]
        assert {reply.body for reply in replies} == {b'{"status":"Accepted","data":100000}'}
        assert {reply.properties.correlation_id for reply in replies} == set(map(str, range(12)))
    assert most <= 2
    assert await side.left(NAMES.vendor_queue("com.Acme")) == 0


async def test_duplicates_that_come_while_their_request_is_handled_are_answered_by_one_run(
    side: Side,
) -> None:
    await side.declare("com.Acme")
    await side.make_queue(REPLIES)
    router, calls, go_on = counting()
    async with working(side, Settings(), router, store=MemoryStore()) as (worker, _):
        for number in range(3):
            await side.put(same(number))
        await until(lambda: worker.counts.received == 3)
        go_on.set()
        replies = [await side.take(REPLIES) for _ in range(3)]
        assert {reply.properties.correlation_id for reply in replies} == {"0", "1", "2"}
        assert {reply.body for reply in replies} == {b'{"status":"Accepted","data":"done"}'}
        assert len(calls) == 1
        assert worker.counts.absorbed == 2


async def test_duplicates_of_a_request_that_fails_are_answered_and_one_dead_letter_is_kept(
    side: Side,
) -> None:
    await side.declare("com.Acme")
    await side.make_queue(REPLIES)
    fails = True

    def reply() -> str:
        if fails:
            raise ValueError("broken")
        return "mended"

    router, calls, go_on = counting(reply)
    async with working(side, Settings(), router, store=MemoryStore()) as (worker, _):
        for number in range(2):
            await side.put(same(number))
        await until(lambda: worker.counts.received == 2)
        go_on.set()
        for _ in range(2):
            assert json.loads((await side.take(REPLIES)).body)["errorCode"] == "InternalError"
        assert (await side.take(NAMES.dead)).headers["dtbridge-reason"] == "failed"
        assert len(calls) == 1
        fails = False  # a failure is not stored: the next one is handled
        await side.put(same(2))
        assert json.loads((await side.take(REPLIES)).body) == {
            "status": "Accepted",
            "data": "mended",
        }
    assert await side.left(NAMES.dead) == 0


async def test_a_request_redelivered_after_a_lost_connection_is_answered_by_the_run_that_goes_on(
    side: Side,
) -> None:
    await side.declare("com.Acme")
    await side.make_queue(REPLIES)
    router, calls, go_on = counting()
    async with working(side, Settings(), router, store=MemoryStore()) as (worker, transport):
        await side.put(same(0))
        await until(lambda: len(calls) == 1)
        side.cut(transport)
        await until(lambda: worker.counts.received == 2)
        go_on.set()
        assert (await side.take(REPLIES)).body == b'{"status":"Accepted","data":"done"}'
        assert len(calls) == 1
    assert await side.left(REPLIES) == 0
    assert await side.left(NAMES.vendor_queue("com.Acme")) == 0


async def test_a_request_that_came_another_way_is_tried_again_by_its_own_vendor(side: Side) -> None:
    """Published to the queue itself, it has a key that the retries' exchange does not know."""
    await side.declare("com.Acme")
    await side.make_queue(REPLIES)
    asked = request(Row(situation="", message_id="RetryOnce"), V201)
    queue = NAMES.vendor_queue("com.Acme")
    async with working(side, Settings(), acme):
        await side.put(msgspec.structs.replace(asked, exchange="", routing_key=queue))
        assert json.loads((await side.take(REPLIES)).body) == {
            "status": "Accepted",
            "data": "at try 2",
        }


async def test_a_request_that_kills_its_worker_again_and_again_goes_to_the_dead_letters(
    side: Side,
) -> None:
    await side.declare("poison", delivery_limit=3)
    router = Router("poison")
    tries = 0

    @router.default
    async def dies(call: Call) -> None:
        nonlocal tries
        tries += 1
        await until(
            lambda: worker.state is State.CONSUMING
        )  # the first delivery may come before that is told
        side.cut(transport)
        await asyncio.Event().wait()

    async with working(side, Settings(drain_timeout=0.1), router) as (worker, transport):
        await side.put(request(Row(situation="poison", vendor_id="poison", message_id="m"), V201))
        dead = await side.take(NAMES.dead)
        assert dead.headers["x-first-death-reason"] == "delivery_limit"
        assert tries == 4
    assert await side.left(NAMES.vendor_queue("poison")) == 0


@pytest.mark.parametrize(
    "vendor_id",
    ["EN+", "EV-BOX", "com.Acme", "🔌" * 255, "a.b.#.*", "", "_", "dead", "retry.1000"],
)
async def test_every_vendor_has_its_own_queue_and_only_its_own_requests(
    side: Side, vendor_id: str
) -> None:
    others = [
        "EN+",
        "EV-BOX",
        "com.Acme",
        "🔌" * 255,
        "🔌" * 254,
        "a.b.#.*",
        "",
        "_",
        "dead",
        "unknown-vendor",
        "retry.1000",
    ]
    routers = []
    for name in others:
        router = Router(name)

        @router.default
        async def says_whose(call: Call, *, _of: str = name) -> str:
            return _of

        routers.append(router)
    await side.declare(*others)
    await side.make_queue(REPLIES)
    async with working(side, Settings(), *routers):
        for spelling in {vendor_id, vendor_id.upper()}:
            await side.put(request(Row(situation="", vendor_id=spelling, message_id="m"), V201))
            assert json.loads((await side.take(REPLIES)).body) == {
                "status": "Accepted",
                "data": vendor_id,
            }


def test_the_contract_is_the_default_one() -> None:
    assert Native().names == NAMES
