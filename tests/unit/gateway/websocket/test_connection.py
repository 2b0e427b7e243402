"""One station's connection at work, between a socket and a bridge that the tests control."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bridge.client.errors import NoAnswer, NotAccepted, StationOffline
from bridge.gateway.websocket.connection import GatewayCounts, StationConnection
from bridge.gateway.websocket.conversation import CALLS_AT_ONCE, Conversation
from bridge.gateway.websocket.traffic import Traffic
from bridge.ocpp import CallError, OcppVersion
from bridge.request.outcome import Kind, Reply
from tests.support import UNTIL_SETTLED

V16, V20, V201, V21 = OcppVersion
ACCEPTED = Reply(b'{"status":"Accepted"}')
FOREVER = 3600.0


class FakeSocket:
    """A socket on which the station sends what the test says; None ends the connection."""

    def __init__(self) -> None:
        self.station: StationConnection
        self._sent: asyncio.Queue[list[Any]] = asyncio.Queue()
        self.closed: tuple[int, str] | None = None
        self.waits: list[float] = []
        """How long the station was to be read no more, for each message."""

    def send(self, frame: bytes) -> bool:
        if self.closed is not None:
            return False
        self._sent.put_nowait(json.loads(frame))
        return True

    def close(self, code: int, reason: str) -> None:
        self.closed = code, reason
        self.station.abandon()

    async def wait_closed(self) -> None:
        pass

    def say(self, *frames: Any) -> None:
        for frame in frames:
            if frame is None:
                self.station.abandon()
                continue
            text = frame if isinstance(frame, str | bytes) else json.dumps(frame)
            self.waits.append(self.station.on_message(text))

    async def sent(self) -> list[Any]:
        async with asyncio.timeout(UNTIL_SETTLED):
            return await self._sent.get()

    @property
    def silent(self) -> bool:
        return self._sent.empty()


class Forwarded:
    """A request that was forwarded to the bridge."""

    def __init__(self, link: "FakeLink", on_reply: Callable[[Reply | Exception], None]) -> None:
        self._link = link
        self._on_reply = on_reply
        self.abandoned = False

    def answer(self, reply: Reply | Exception) -> None:
        self._link.outstanding -= 1
        self._on_reply(reply)

    def abandon(self) -> None:
        self._link.outstanding -= 1
        self.abandoned = True


class FakeLink:
    """A bridge whose forwarded requests the test answers."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[tuple[bytes, str, float, Forwarded]] = asyncio.Queue()
        self.outstanding = 0
        self.answers_at_once: Reply | Exception | None = None
        self.raises: Exception | None = None

    def start_forward(
        self,
        station_id: str,
        version: OcppVersion,
        payload: bytes,
        message_id: str,
        timeout: float,
        on_reply: Callable[[Reply | Exception], None],
    ) -> Forwarded:
        assert station_id == "CP001"
        if self.raises is not None:
            raise self.raises
        forwarded = Forwarded(self, on_reply)
        self.outstanding += 1
        if self.answers_at_once is not None:
            forwarded.answer(self.answers_at_once)
        else:
            self.requests.put_nowait((payload, message_id, timeout, forwarded))
        return forwarded

    async def request(self) -> tuple[bytes, str, float, Forwarded]:
        async with asyncio.timeout(UNTIL_SETTLED):
            return await self.requests.get()


class Running:
    """A connection that is open until the test ends."""

    def __init__(
        self, version: OcppVersion = V201, call_timeout: float = FOREVER, max_rate: float = 0.0
    ) -> None:
        self.socket = FakeSocket()
        self.link = FakeLink()
        self.counts = GatewayCounts()
        self.traffic = Traffic()
        self.told: list[str] = []
        """Who was told to be read more slowly."""
        conversation = Conversation(version, heartbeat=300, max_payload=1000)
        self.station = self.socket.station = StationConnection(
            "CP001",
            self.socket,
            self.link,
            conversation,
            counts=self.counts,
            traffic=self.traffic,
            call_timeout=call_timeout,
            max_rate=max_rate,
            on_slowed=self.told.append,
        )

    def end(self) -> None:
        self.socket.say(None)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    running = Running()
    yield running
    running.end()
    assert running.link.outstanding == 0


def data_transfer(message_id: str, number: int = 0) -> list[Any]:
    return [2, message_id, "DataTransfer", {"vendorId": "v", "data": number}]


# ---- from the station ----


async def test_a_data_transfer_is_forwarded_and_its_reply_sent(running: Running) -> None:
    running.socket.say(data_transfer("1", 7))
    payload, message_id, timeout, answer = await running.link.request()
    assert json.loads(payload) == {"vendorId": "v", "data": 7}
    assert message_id == "1"
    assert FOREVER - 60 < timeout <= FOREVER
    answer.answer(ACCEPTED)
    assert await running.socket.sent() == [3, "1", {"status": "Accepted"}]


async def test_what_the_bridge_has_no_part_in_does_not_wait_for_it(running: Running) -> None:
    running.socket.say(data_transfer("1"), [2, "2", "Heartbeat", {}])
    assert (await running.socket.sent())[:2] == [3, "2"]
    (await running.link.request())[3].answer(ACCEPTED)
    assert (await running.socket.sent())[:2] == [3, "1"]


async def test_a_flood_is_refused(running: Running) -> None:
    running.socket.say(*(data_transfer(str(number)) for number in range(CALLS_AT_ONCE + 100)))
    for number in range(CALLS_AT_ONCE, CALLS_AT_ONCE + 100):
        assert (await running.socket.sent())[:3] == [4, str(number), "GenericError"]
    assert running.counts.forwarded == CALLS_AT_ONCE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoAnswer("no answer within 1 s"), "GenericError"),
        (NotAccepted("no queue takes the request"), "GenericError"),
        (RuntimeError("password=hunter2"), "InternalError"),
    ],
)
async def test_whatever_goes_wrong_is_a_callerror_without_a_word_of_the_exception(
    running: Running, error: Exception, code: str
) -> None:
    running.socket.say(data_transfer("1"))
    _, _, _, answer = await running.link.request()
    answer.answer(error)
    frame = await running.socket.sent()
    assert frame[:3] == [4, "1", code]
    assert "hunter2" not in json.dumps(frame)


async def test_a_reply_that_cannot_be_sent_is_an_internal_error(running: Running) -> None:
    running.socket.say(data_transfer("1"))
    (await running.link.request())[3].answer(Reply(b'{"status":'))
    frame = await running.socket.sent()
    assert frame == [4, "1", "InternalError", "The request could not be processed.", {}]


async def test_a_connection_that_ends_ends_what_was_forwarded_for_it() -> None:
    running = Running()
    running.socket.say(data_transfer("1"), data_transfer("2"))
    await running.link.request()
    running.end()
    assert running.link.outstanding == 0


async def test_an_answer_to_a_station_that_has_gone_is_dropped() -> None:
    running = Running()
    running.socket.say(data_transfer("1"))
    _, _, _, answer = await running.link.request()
    running.socket.closed = 1006, ""
    answer.answer(ACCEPTED)
    running.end()


async def test_an_answer_that_is_there_at_once_is_sent(running: Running) -> None:
    running.link.answers_at_once = ACCEPTED
    running.socket.say(data_transfer("1"), data_transfer("2"))
    assert [(await running.socket.sent())[1] for _ in range(2)] == ["1", "2"]


async def test_a_bridge_that_raises_costs_that_request_alone(running: Running) -> None:
    running.link.raises = RuntimeError("password=hunter2")
    running.socket.say(data_transfer("1"))
    assert (await running.socket.sent())[:3] == [4, "1", "InternalError"]
    running.link.raises = None
    running.link.answers_at_once = ACCEPTED
    running.socket.say(data_transfer("2"))
    assert (await running.socket.sent())[:2] == [3, "2"]


# ---- to the station ----


def ask(running: Running, payload: bytes = b'{"vendorId":"v"}') -> "asyncio.Task[Reply]":
    return asyncio.create_task(running.station.on_payload(payload, FOREVER))


async def test_a_request_of_the_csms_is_a_call_and_the_answer_its_reply(running: Running) -> None:
    asked = ask(running)
    kind, message_id, action, payload = await running.socket.sent()
    assert (kind, action, payload) == (2, "DataTransfer", {"vendorId": "v"})
    running.socket.say(f'[3,"{message_id}",{{ "status":"Accepted" }}]')
    assert await asked == Reply(b'{ "status":"Accepted" }')


async def test_both_directions_do_not_wait_for_each_other(running: Running) -> None:
    asked = ask(running)
    call = await running.socket.sent()
    running.socket.say(data_transfer("1"))
    _, _, _, answer = await running.link.request()
    answer.answer(ACCEPTED)
    assert (await running.socket.sent())[:2] == [3, "1"]
    running.socket.say([3, call[1], {"status": "Accepted"}])
    await asked


async def test_a_callerror_of_the_station_is_its_answer(running: Running) -> None:
    asked = ask(running)
    call = await running.socket.sent()
    running.socket.say([4, call[1], "NotSupported", "no", {}])
    reply = await asked
    assert reply.kind is Kind.CALL_ERROR
    assert json.loads(reply.body)["errorCode"] == "NotSupported"


async def test_a_broken_answer_is_the_csmss_to_know_and_in_2_1_the_stations_too() -> None:
    for version in OcppVersion:
        running = Running(version)
        asked = asyncio.create_task(running.station.on_payload(b"{}", FOREVER))
        call = await running.socket.sent()
        running.socket.say(f'[3,"{call[1]}",{{"status":"Accepted"')
        reply = await asked
        assert reply.kind is Kind.CALL_ERROR
        assert b"the station's answer is broken" in reply.body
        if version is V21:
            assert (await running.socket.sent())[:2] == [5, call[1]]
        running.end()
        assert running.socket.silent
        assert running.counts.late == 0


async def test_frames_that_cannot_be_read_are_logged_once_for_each_connection(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "bridge.gateway")
    for _ in range(3):
        running.socket.say(f'[2,"{{{"x" * 36}}}","Heartbeat",{{}}]')
        assert (await running.socket.sent())[:2] == [4, f"{{{'x' * 36}}}"]
    assert [record.getMessage().split(" station=")[0] for record in caplog.records] == [
        "frame refused"
    ]


async def test_an_answer_after_the_time_is_counted_and_the_next_call_is_not_mistaken(
    running: Running,
) -> None:
    """The link ends a wait by cancelling it, and then sends the next request."""
    given_up = ask(running)
    first = await running.socket.sent()
    given_up.cancel()
    asked = ask(running)
    second = await running.socket.sent()
    running.socket.say(
        [3, first[1], {"status": "Rejected"}], [3, second[1], {"status": "Accepted"}]
    )
    assert json.loads((await asked).body) == {"status": "Accepted"}
    assert (running.counts.late, running.counts.calls) == (1, 2)


async def test_an_answer_in_the_moment_the_wait_ends_harms_nobody(running: Running) -> None:
    asked = ask(running)
    call = await running.socket.sent()
    running.socket.say([3, call[1], {"status": "Accepted"}])
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    running.socket.say([2, "h", "Heartbeat", {}])
    assert (await running.socket.sent())[:2] == [3, "h"]


async def test_a_station_that_disconnects_fails_its_call_at_once() -> None:
    running = Running()
    asked = ask(running)
    await running.socket.sent()
    running.end()
    with pytest.raises(StationOffline) as caught:
        await asked
    assert caught.value.sent
    with pytest.raises(StationOffline) as caught:
        await ask(running)
    assert not caught.value.sent


async def test_a_connection_that_is_being_closed_is_sent_nothing(
    running: Running,
) -> None:
    running.socket.closed = 1006, ""
    with pytest.raises(StationOffline) as caught:
        await ask(running)
    assert not caught.value.sent


async def test_a_connection_that_is_abandoned_waits_for_nothing_any_more() -> None:
    """The station has a newer connection; this socket may be closed much later."""
    running = Running()
    running.socket.say(data_transfer("1"))
    await running.link.request()
    asked = ask(running)
    await running.socket.sent()
    running.station.abandon()
    with pytest.raises(StationOffline):
        await asked
    assert running.link.outstanding == 0
    running.end()


async def test_a_request_whose_payload_is_broken_is_told(running: Running) -> None:
    with pytest.raises(CallError, match="FormatViolation"):
        await ask(running, b"{")
    assert running.socket.silent


# ---- the end ----


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_station_with_nothing_outstanding_is_closed_at_once() -> None:
    running = Running()
    await running.station.close_when_idle(1001, "restart", soon(FOREVER))
    assert running.socket.closed == (1001, "restart")


async def test_a_station_is_closed_when_what_is_outstanding_is_done() -> None:
    running = Running()
    running.socket.say(data_transfer("1"))
    _, _, _, answer = await running.link.request()
    asked = ask(running)
    call = await running.socket.sent()
    closing = asyncio.create_task(running.station.close_when_idle(1001, "restart", soon(FOREVER)))
    answer.answer(ACCEPTED)
    assert (await running.socket.sent())[:2] == [3, "1"]
    assert not closing.done()
    running.socket.say([3, call[1], {}])
    await asked
    await closing
    assert running.socket.closed == (1001, "restart")


async def test_a_station_that_is_never_done_is_closed_at_the_deadline() -> None:
    running = Running()
    running.socket.say(data_transfer("1"))
    await running.link.request()
    await running.station.close_when_idle(1001, "restart", soon(0.02))
    assert running.socket.closed == (1001, "restart")


# ---- counted ----


async def test_a_call_to_the_station_is_counted_by_how_it_ended() -> None:
    here = Running()
    traffic = here.traffic
    asked = asyncio.create_task(here.station.on_payload(b'{"vendorId":"v"}', FOREVER))
    message_id = (await here.socket.sent())[1]
    here.socket.say([3, message_id, {"status": "Accepted"}])
    await asked
    given_up = asyncio.create_task(here.station.on_payload(b'{"vendorId":"v"}', FOREVER))
    await here.socket.sent()
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    lost = asyncio.create_task(here.station.on_payload(b'{"vendorId":"v"}', FOREVER))
    await here.socket.sent()
    here.end()
    await asyncio.gather(lost, return_exceptions=True)
    assert traffic.calls == {
        ("to_station", "DataTransfer", "response"): 1,
        ("to_station", "DataTransfer", "unanswered"): 1,
        ("to_station", "DataTransfer", "offline"): 1,
    }
    assert traffic.called.count == 1


async def test_a_station_that_sends_too_much_is_read_later_and_nothing_is_refused() -> None:
    running = Running(max_rate=50.0)
    for number in range(20):
        running.socket.say([2, f"m{number}", "Heartbeat", {}])
        if running.socket.waits[-1]:
            await asyncio.sleep(running.socket.waits[-1])
            running.station.read_again()
    answers = [await running.socket.sent() for _ in range(20)]
    assert [answer[:2] for answer in answers] == [[3, f"m{number}"] for number in range(20)]
    assert sum(running.socket.waits) >= (20 - 1 - 5) / 50 * 0.9
    assert running.counts.slowed >= 10
    assert running.told == ["CP001"]
    running.end()


async def test_a_station_that_stays_below_its_rate_is_not_slowed_down() -> None:
    running = Running(max_rate=1_000_000.0)
    running.socket.say(*([2, f"m{number}", "Heartbeat", {}] for number in range(20)))
    for _ in range(20):
        await running.socket.sent()
    assert set(running.socket.waits) == {0.0}
    assert (running.counts.slowed, running.told) == (0, [])
    running.end()


# ---- calls without a wait ----


async def test_a_call_is_answered_once_and_given_up_without_a_word(running: Running) -> None:
    answers: list[Reply | BaseException] = []
    running.station.start_call(b'{"vendorId":"v"}', answers.append)
    first = await running.socket.sent()
    running.station.give_up_call()
    running.station.give_up_call()
    running.socket.say([3, first[1], {"status": "Rejected"}])
    assert (answers, running.counts.late) == ([], 1)
    running.station.start_call(b'{"vendorId":"v"}', answers.append)
    second = await running.socket.sent()
    running.socket.say([3, second[1], {"status": "Accepted"}], [3, second[1], {}])
    assert answers == [Reply(b'{"status": "Accepted"}')]


async def test_a_call_on_a_connection_that_ends_is_told_once() -> None:
    running = Running()
    answers: list[Any] = []
    running.station.start_call(b'{"vendorId":"v"}', answers.append)
    running.end()
    running.end()
    assert [(type(answer), answer.sent) for answer in answers] == [(StationOffline, True)]
    with pytest.raises(StationOffline):
        running.station.start_call(b'{"vendorId":"v"}', answers.append)


async def test_what_is_answered_leaves_no_garbage(running: Running) -> None:
    running.link.answers_at_once = ACCEPTED
    answers: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        for number in range(100):
            running.socket.say(data_transfer(str(number)))
            await running.socket.sent()
            running.station.start_call(b'{"vendorId":"v"}', answers.append)
            call = await running.socket.sent()
            running.socket.say([3, call[1], {}])
        assert gc.collect() < 100, "none for each"
    finally:
        gc.enable()
