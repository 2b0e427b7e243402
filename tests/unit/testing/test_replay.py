"""Recorded requests put to handlers again, and answers compared as JSON values."""

import json
from typing import Any

import msgspec
import pytest

from bridge import Call, Rejected, Retry, Router
from bridge.request.outcome import Failure, Kind, Late, Reason, Reply, RetryLater
from bridge.telemetry.events import Event
from bridge.testing.replay import Difference, Replayer, Result, compare, parse_path


def event(message: str, data: Any = None, **changes: Any) -> Event:
    body = {"vendorId": "com.acme", "messageId": message, "data": data}
    return msgspec.structs.replace(
        Event(
            "t",
            "accepted",
            "CP1",
            "com.acme",
            message,
            ocpp_version="ocpp1.6",
            ocpp_message_id="42",
            request=json.dumps(body),
        ),
        **changes,
    )


@pytest.fixture
def router() -> Router:
    router = Router("com.acme")

    @router.on("Tell")
    async def tell(call: Call, data: Any) -> list[Any]:
        return [call.station_id, call.ocpp_message_id, call.attempt, call.redelivered, data]

    @router.on("Raise")
    async def raises(call: Call) -> None:
        json.loads("{")

    @router.on("RaiseInThread")
    def raises_in_thread(call: Call) -> None:
        raise KeyError("x")

    @router.on("RaiseWhenAwaited")
    def raises_when_awaited(call: Call) -> Any:
        return raises(call)

    @router.on("Retry")
    async def retry(call: Call) -> None:
        raise Retry(5)

    @router.on("Reject")
    async def reject(call: Call) -> None:
        raise Rejected("No")

    return router


async def handled(router: Router, event: Event) -> Result:
    replayer = Replayer([router])
    try:
        return await replayer.handle(event)
    finally:
        await replayer.close()


async def test_a_handler_is_told_what_it_was_told_then(router: Router) -> None:
    result = await handled(router, event("Tell", "d", attempt=3, redelivered=True))
    assert isinstance(result.outcome, Reply)
    data = json.loads(json.loads(result.outcome.body)["data"])
    assert data == ["CP1", "42", 3, True, "d"]
    assert result.raised == ""


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Raise", "JSONDecodeError: "),
        ("RaiseInThread", "KeyError: 'x' ("),
        ("RaiseWhenAwaited", "JSONDecodeError: "),
    ],
)
async def test_what_a_handler_raises_is_told_with_its_place(
    router: Router, message: str, told: str
) -> None:
    result = await handled(router, event(message))
    assert isinstance(result.outcome, Failure)
    assert result.raised.startswith(told)
    assert f"{__file__}:" in result.raised


async def test_where_a_library_raises_the_handlers_own_line_is_told(router: Router) -> None:
    result = await handled(router, event("Raise"))
    assert "decoder.py:" not in result.raised
    assert f"({__file__}:" in result.raised


async def test_what_is_raised_as_designed_is_no_failure(router: Router) -> None:
    assert (await handled(router, event("Reject"))).raised == ""
    assert (await handled(router, event("Retry"))).raised.startswith("Retry: ")


async def test_each_request_has_its_own_outcome(router: Router) -> None:
    replayer = Replayer([router])
    first = await replayer.handle(event("Raise"))
    second = await replayer.handle(event("Tell"))
    await replayer.close()
    assert (bool(first.raised), bool(second.raised)) == (True, False)


async def test_an_event_that_cannot_be_replayed_is_a_value_error(router: Router) -> None:
    with pytest.raises(ValueError, match="does not have its request"):
        await handled(router, event("Tell", request=None))
    with pytest.raises(ValueError, match="Unknown OCPP version"):
        await handled(router, event("Tell", ocpp_version=""))


# ---- compared ----


def answer(**members: Any) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (b'{"status":"Accepted"}', b'{ "status" : "Accepted" }'),
        (b'{"a":1,"b":[1.0,{}]}', b'{"b":[1,{}],"a":1}'),
        (answer(data='{"a":[1, 2]}'), answer(data='{"a":[1,2]}')),
        (answer(data='[{"a":1,"b":2}]'), answer(data='[{"b":2,"a":1}]')),
        (answer(data="{not json"), answer(data="{not json")),
    ],
)
def test_answers_are_the_same_whatever_their_bytes(then: bytes, now: bytes) -> None:
    assert compare(then, Result(Reply(now))) == []


@pytest.mark.parametrize(
    ("then", "now", "difference"),
    [
        (answer(status="Accepted"), answer(status="Rejected"), ("status", "Accepted", "Rejected")),
        (answer(data=1), answer(data=True), ("data", 1, True)),
        (answer(data=1), answer(data="1"), ("data", 1, "1")),
        (answer(data=None), answer(), ("data", None, ...)),
        (answer(), answer(data=None), ("data", ..., None)),
        (answer(data=[1]), answer(data=[1, 2]), ("data.1", ..., 2)),
        (answer(data=[1, 2]), answer(data=[1]), ("data.1", 2, ...)),
        (answer(data='{"a":{"b":1}}'), answer(data='{"a":{"b":2}}'), ("data.a.b", 1, 2)),
        (answer(data={"a.b": 1}), answer(data={"a.b": 2}), ("/data/a.b", 1, 2)),
        (answer(data={"a/b~": 1}), answer(data={"a/b~": 2}), ("/data/a~1b~0", 1, 2)),
        (answer(data={}), answer(data=[]), ("data", {}, [])),
        (
            answer(errorCode="InternalError"),
            answer(errorCode="GenericError"),
            ("errorCode", "InternalError", "GenericError"),
        ),
    ],
)
def test_what_differs_is_named_by_its_path(
    then: bytes, now: bytes, difference: tuple[str, Any, Any]
) -> None:
    path, *values = difference
    shown = ["(absent)" if each is ... else msgspec.json.encode(each).decode() for each in values]
    assert compare(then, Result(Reply(now))) == [Difference(path, *shown)]


@pytest.mark.parametrize(
    ("then", "outcome", "words"),
    [
        (
            answer(status="Accepted"),
            Failure(answer(errorCode="InternalError"), Reason.FAILED),
            ("Accepted", "CALLERROR InternalError"),
        ),
        (
            answer(errorCode="SecurityError"),
            Reply(answer(status="Rejected")),
            ("CALLERROR SecurityError", "Rejected"),
        ),
        (answer(status="Accepted"), RetryLater(2.5), ("Accepted", "another try after 2.5 s")),
        (answer(status="Accepted"), Late(), ("Accepted", "none")),
        (answer(), Reply(answer(errorCode="X"), Kind.CALL_ERROR), ("no status", "CALLERROR X")),
    ],
)
def test_an_answer_of_another_kind_is_told_in_words(
    then: bytes, outcome: Any, words: tuple[str, str]
) -> None:
    assert compare(then, Result(outcome)) == [Difference("answer", *words)]


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("data", ["status"]),
        ("data.a", ["status", "data.list.0.id", "data.list.1.id"]),
        ("data.list.*.id", ["status", "data.a"]),
        ("data.list.0", ["status", "data.a", "data.list.1.id"]),
        ("/data/list", ["status", "data.a"]),
        ("*", []),
        ("*.a", ["status", "data.list.0.id", "data.list.1.id"]),
        ("data.b", ["status", "data.a", "data.list.0.id", "data.list.1.id"]),
    ],
)
def test_what_is_ignored_is_left_out_with_all_below_it(path: str, left: list[str]) -> None:
    then = answer(status="Accepted", data={"a": 1, "list": [{"id": 1}, {"id": 2}]})
    now = answer(status="Rejected", data={"a": 2, "list": [{"id": 3}, {"id": 4}]})
    found = compare(then, Result(Reply(now)), [parse_path(path)])
    assert [each.path for each in found] == left


@pytest.mark.parametrize("path", ["", ".", "a..b", "/", "/a/"])
def test_an_empty_name_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="is no path such as"):
        parse_path(path)


@pytest.mark.parametrize("then", [b"", b"[]", b"\xff", b"{" * 10, b'{"a":' * 100_000])
def test_a_recorded_answer_that_is_none_is_a_value_error(then: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's words
        compare(then, Result(Reply(b"{}")))
