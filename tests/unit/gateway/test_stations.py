"""The stations that a gateway holds: whose turn it is, and who is lost.

All of it is so for a handler that a task runs for, and for one with callbacks.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest

from bridge import DataTransferRequest, DataTransferResponse
from bridge.client.errors import StationOffline
from bridge.gateway.station_handler import CallHandler, StationHandler, answer_of
from bridge.gateway.stations import LARGEST, STATION_LIMIT, Station, Stations
from bridge.ocpp import CallError, OcppVersion, decode_call_error
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Offline, Outcome, Reason, Reply
from bridge.telemetry.handled import facts
from tests.support import UNTIL_SETTLED, Settled, a_request, payload

Function = Callable[[DataTransferRequest], Awaitable[Any]]
OnAnswer = Callable[[Reply | BaseException], None]

SHORT = 0.02
ACCEPTED = Reply(b'{"status":"Accepted"}')


class InCallbacks:
    """A function as a handler with callbacks."""

    def __init__(self, function: Function) -> None:
        self._answer = answer_of(function, OcppVersion.V2_0_1)
        self._task: asyncio.Task[None] | None = None

    def start_call(self, payload: bytes, on_answer: OnAnswer) -> None:
        self._task = asyncio.create_task(self._run(payload, on_answer))

    async def _run(self, payload: bytes, on_answer: OnAnswer) -> None:
        try:
            answer: Reply | BaseException = await self._answer(payload, UNTIL_SETTLED)
        except Exception as error:  # noqa: BLE001 - passed on
            answer = error
        on_answer(answer)

    def give_up_call(self) -> None:
        assert self._task is not None
        if self._task is not asyncio.current_task():
            self._task.cancel()


class Held:
    """Stations, and what their requests were settled with."""

    def __init__(
        self,
        timeout: float = UNTIL_SETTLED,
        kind: Callable[[Function], StationHandler] = InCallbacks,
    ) -> None:
        """`kind`: makes the handler of a function."""
        self._kind = kind
        self.settled = Settled()
        self.stations = Stations(timeout)
        self.stations.settle = self.settled

    def connect(self, handler: Function, station_id: str = "CP001") -> Station:
        return self.connect_as(self._kind(handler), station_id)

    def connect_as(self, handler: StationHandler, station_id: str = "CP001") -> Station:
        station = Station(station_id, OcppVersion.V2_0_1, handler)
        self.stations.connect(station)
        return station

    def send(
        self, station_id: str = "CP001", *, body: bytes | None = None, seconds: float | None = None
    ) -> Request:
        """`seconds`: until its deadline; None: it has none."""
        deadline = None if seconds is None else time.time() + seconds
        request = msgspec.structs.replace(a_request(body, deadline=deadline), station_id=station_id)
        self.stations.dispatch(request)
        return request


KINDS = {"a task": lambda function: function, "callbacks": InCallbacks}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[[Function], StationHandler]:
    return KINDS[request.param]


@pytest.fixture
def held(kind: Callable[[Function], StationHandler]) -> Held:
    return Held(kind=kind)


async def accepts(request: DataTransferRequest) -> DataTransferResponse:
    return DataTransferResponse("Accepted")


async def hangs(request: DataTransferRequest) -> DataTransferResponse:
    await asyncio.Event().wait()
    raise AssertionError("the event was never set")


def hold_up(seconds: float) -> None:
    """Nothing else runs meanwhile."""
    time.sleep(seconds)


async def turns(count: int = 6) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_station_has_one_request_at_a_time_and_the_others_in_their_order(
    held: Held,
) -> None:
    running, most = 0, 0
    order: list[Any] = []

    async def counts(request: DataTransferRequest) -> DataTransferResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        order.append(len(order))
        return DataTransferResponse("Accepted")

    held.connect(counts)
    for _ in range(5):
        held.send()
    await held.settled.until(5)
    assert (most, order) == (1, [0, 1, 2, 3, 4])
    assert held.settled.outcomes == [ACCEPTED] * 5
    assert held.stations.in_hand == 0


async def test_one_more_than_the_limit_is_answered_at_once(held: Held) -> None:
    held.connect(hangs)
    for _ in range(STATION_LIMIT + 1):
        held.send()
    (outcome,) = held.settled.outcomes
    assert isinstance(outcome, Failure)
    assert outcome.reason is Reason.OVERLOADED
    assert held.stations.in_hand == STATION_LIMIT
    held.stations.close()


async def test_who_had_the_request_and_who_waited_are_told_apart_when_the_station_is_lost(
    held: Held,
) -> None:
    station = held.connect(hangs)
    held.send()
    held.send()
    await turns()
    held.stations.disconnect(station)
    assert sorted(held.settled.outcomes, key=repr) == [Offline(sent=False), Offline(sent=True)]
    await turns()
    assert held.stations.in_hand == 0


async def test_a_new_connection_of_a_station_ends_what_its_old_one_had(held: Held) -> None:
    held.connect(hangs)
    held.send()
    await turns()
    held.connect(accepts)
    assert held.settled.outcomes == [Offline(sent=True)]
    held.send()
    await held.settled.until(2)
    assert held.settled.outcomes[1] == ACCEPTED


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_handler_that_disconnects_its_own_station_goes_on_to_its_end(
    held: Held, at_once: bool
) -> None:
    finished = asyncio.Event()

    async def disconnects(request: DataTransferRequest) -> DataTransferResponse:
        if not at_once:
            await asyncio.sleep(0)
        held.stations.disconnect(station)
        await asyncio.sleep(0)
        finished.set()
        return DataTransferResponse("Accepted")

    station = held.connect(disconnects)
    held.send()
    async with asyncio.timeout(UNTIL_SETTLED):
        await finished.wait()
    await turns()
    assert held.settled.outcomes == [Offline(sent=True)]
    assert held.stations.in_hand == 0


async def test_without_an_answer_in_time_neither_the_request_nor_its_turn_is_left(
    kind: Callable[[Function], StationHandler],
) -> None:
    held = Held(SHORT, kind)
    held.connect(hangs)
    held.send()
    held.send()
    await held.settled.until(2)
    for outcome in held.settled.outcomes:
        assert isinstance(outcome, Failure)
    assert {outcome.error for outcome in held.settled.outcomes if isinstance(outcome, Failure)} == {
        "TimeoutError: the station did not answer in time",
        "TimeoutError: its turn did not come",
    }
    await turns()
    assert held.stations.in_hand == 0
    held.connect(accepts)
    held.send()
    await held.settled.until(3)
    assert held.settled.outcomes[2] == ACCEPTED


async def test_a_handler_that_swallows_its_cancellation_is_settled_once_and_holds_up_nobody(
    held: Held,
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def swallows(request: DataTransferRequest) -> DataTransferResponse:
        entered.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await go_on.wait()
        return DataTransferResponse("Accepted")

    first = held.connect(swallows)
    held.send()
    held.send()  # waits for its turn
    async with asyncio.timeout(UNTIL_SETTLED):
        await entered.wait()
    held.stations.disconnect(first)
    await turns()
    assert sorted(held.settled.outcomes, key=repr) == [Offline(sent=False), Offline(sent=True)]
    go_on.set()
    await turns()
    assert len(held.settled.outcomes) == 2
    assert held.stations.in_hand == 0


async def test_a_station_that_is_not_there_is_offline(held: Held) -> None:
    held.connect(accepts)
    held.send("CP002")
    assert held.settled.outcomes == [Offline(sent=False)]


@pytest.mark.parametrize("code", ["E-17", "FormatViolation"])
async def test_a_callerror_of_a_station_keeps_its_own_code(held: Held, code: str) -> None:
    async def refuses(request: DataTransferRequest) -> DataTransferResponse:
        raise CallError(code, "why", {"a": 1})

    held.connect(refuses)
    held.send()
    outcome = await held.settled.first()
    assert isinstance(outcome, Reply)
    error = decode_call_error(outcome.body)
    assert (error.code, error.description, error.details) == (code, "why", {"a": 1})


async def test_each_request_is_begun_in_the_context_that_it_came_in(held: Held) -> None:
    came_as: ContextVar[str] = ContextVar("came_as")
    seen: list[tuple[str, str]] = []

    async def notes(request: DataTransferRequest) -> DataTransferResponse:
        seen.append((came_as.get(), facts()["message"]))
        await asyncio.sleep(0)
        return DataTransferResponse("Accepted")

    held.connect(notes)
    for name in ("first", "second", "third"):
        token = came_as.set(name)
        held.send(body=payload(message_id=name))
        came_as.reset(token)
    await held.settled.until(3)
    assert seen == [(name, name) for name in ("first", "second", "third")]


async def test_a_request_whose_time_is_over_when_its_turn_comes_is_not_sent(held: Held) -> None:
    """Though the wheel has not turned yet."""
    given: list[str | None] = []
    go_on = asyncio.Event()

    async def waits(request: DataTransferRequest) -> DataTransferResponse:
        given.append(request.message_id)
        await go_on.wait()
        hold_up(2 * SHORT)
        return DataTransferResponse("Accepted")

    held.connect(waits)
    held.send(body=payload(message_id="first"))
    held.send(body=payload(message_id="second"), seconds=SHORT)
    go_on.set()
    await held.settled.until(2)
    assert given == ["first"]
    first, second = held.settled.outcomes
    assert first == ACCEPTED
    assert isinstance(second, Failure)
    assert (second.body, second.error) == (None, "TimeoutError: its turn did not come")


async def test_an_answer_that_is_there_as_its_station_is_lost_counts(held: Held) -> None:
    go_on = asyncio.Event()

    async def waits(request: DataTransferRequest) -> DataTransferResponse:
        await go_on.wait()
        return DataTransferResponse("Accepted")

    station = held.connect(waits)
    held.send()
    await turns()
    go_on.set()
    asyncio.get_running_loop().call_soon(held.stations.disconnect, station)
    await turns()
    assert (held.settled.outcomes, held.stations.in_hand) == ([ACCEPTED], 0)


async def test_a_task_that_ends_as_its_time_does_passes_its_turn_on_once() -> None:
    held = Held(kind=KINDS["a task"])
    events = [asyncio.Event() for _ in range(3)]
    begun: list[int] = []

    async def waits(request: DataTransferRequest) -> DataTransferResponse:
        begun.append(len(begun))
        await events[begun[-1]].wait()
        return DataTransferResponse("Accepted")

    station = held.connect(waits)
    for _ in events:
        held.send()
    await turns()
    assert station.in_turn is not None
    events[0].set()
    asyncio.get_running_loop().call_soon(station.in_turn.look_again, 0)
    await turns()
    assert (held.settled.outcomes, begun) == ([ACCEPTED], [0, 1])
    held.stations.close()


class Line:
    """A handler with callbacks, which keeps what it is given."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.answers: list[OnAnswer] = []
        self.given_up = 0

    def start_call(self, payload: bytes, on_answer: OnAnswer) -> None:
        self.payloads.append(payload)
        self.answers.append(on_answer)

    def give_up_call(self) -> None:
        self.given_up += 1

    async def on_payload(self, payload: bytes, timeout: float) -> Reply:
        raise AssertionError("it has callbacks")


@pytest.fixture
def line(held_line: tuple[Held, Line]) -> Line:
    return held_line[1]


@pytest.fixture
def gateway(held_line: tuple[Held, Line]) -> Held:
    return held_line[0]


@pytest.fixture
def held_line() -> tuple[Held, Line]:
    """A gateway with the one station, whose handler is the line."""
    gateway, line = Held(), Line()
    assert isinstance(line, CallHandler)
    gateway.connect_as(line)
    return gateway, line


async def test_callbacks_are_used_where_a_handler_has_them_and_no_task_runs(
    gateway: Held, line: Line
) -> None:
    for number in range(3):
        gateway.send(body=payload(message_id=f"{number}"))
    assert line.payloads == [payload(message_id="0")]
    assert (gateway.stations.in_hand, len(asyncio.all_tasks())) == (3, 1)
    for _ in range(3):
        line.answers.pop()(ACCEPTED)
    assert line.payloads == [payload(message_id=f"{number}") for number in range(3)]
    assert gateway.settled.outcomes == [ACCEPTED] * 3
    assert gateway.stations.in_hand == 0


async def test_a_handler_may_answer_before_it_returns() -> None:
    class AtOnce(Line):
        def start_call(self, payload: bytes, on_answer: OnAnswer) -> None:
            super().start_call(payload, on_answer)
            if len(self.payloads) > 1:
                on_answer(ACCEPTED)

    gateway, line = Held(), AtOnce()
    gateway.connect_as(line)
    for number in range(STATION_LIMIT):
        gateway.send(body=payload(message_id=f"{number}"))
    assert len(line.payloads) == 1
    line.answers[0](ACCEPTED)
    assert line.payloads == [payload(message_id=f"{number}") for number in range(STATION_LIMIT)]
    assert gateway.settled.outcomes == [ACCEPTED] * STATION_LIMIT
    gateway.send()
    assert gateway.settled.outcomes == [ACCEPTED] * (STATION_LIMIT + 1)
    assert (gateway.stations.in_hand, line.given_up) == (0, 0)


NO_BYTES: list[Any] = [None, "{}"]


def is_failed(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.reason is Reason.FAILED


ERRORS: list[tuple[BaseException, Callable[[Outcome], bool]]] = [
    (StationOffline("CP001"), lambda outcome: outcome == Offline(sent=False)),
    (StationOffline("CP001", sent=True), lambda outcome: outcome == Offline(sent=True)),
    (ConnectionResetError("secret"), lambda outcome: outcome == Offline(sent=True)),
    (
        CallError("SecurityError"),
        lambda outcome: isinstance(outcome, Reply) and outcome.kind is Kind.CALL_ERROR,
    ),
    (
        TimeoutError(),
        lambda outcome: isinstance(outcome, Failure) and outcome.reason is Reason.TIMED_OUT,
    ),
    (ValueError("secret"), is_failed),
    (asyncio.CancelledError(), is_failed),
    (SystemExit(3), is_failed),
]


@pytest.mark.parametrize("raised", [True, False])
@pytest.mark.parametrize(("error", "is_right"), ERRORS, ids=lambda value: type(value).__name__)
async def test_what_a_handler_raises_or_passes_on_has_its_outcome_and_the_next_its_turn(
    error: BaseException, is_right: Callable[[Outcome], bool], raised: bool
) -> None:
    class Fails(Line):
        def start_call(self, payload: bytes, on_answer: OnAnswer) -> None:
            super().start_call(payload, on_answer)
            if len(self.payloads) == 2:
                if raised:
                    raise error
                on_answer(error)

    gateway, line = Held(), Fails()
    gateway.connect_as(line)
    for _ in range(3):
        gateway.send()
    line.answers[0](ACCEPTED)
    accepted, outcome = gateway.settled.outcomes
    assert accepted == ACCEPTED
    assert is_right(outcome), outcome
    if isinstance(outcome, Failure):
        assert b"secret" not in (outcome.body or b"")
    assert len(line.payloads) == 3
    line.answers[2](ACCEPTED)
    assert gateway.settled.outcomes[2] == ACCEPTED
    assert (gateway.stations.in_hand, line.given_up) == (0, 0)


@pytest.mark.parametrize(
    "answer",
    [None, 7, b"{}", Reply(NO_BYTES[0]), Reply(NO_BYTES[1]), Reply(bytes(LARGEST + 1))],
    ids=lambda answer: repr(answer)[:20],
)
async def test_an_answer_that_is_none_is_the_handlers_fault(
    gateway: Held, line: Line, answer: Any
) -> None:
    gateway.send()
    line.answers[0](answer)
    (outcome,) = gateway.settled.outcomes
    assert is_failed(outcome), outcome
    assert gateway.stations.in_hand == 0


async def test_a_second_answer_is_ignored_and_not_taken_for_the_next_ones(
    gateway: Held, line: Line
) -> None:
    gateway.send()
    gateway.send()
    for answer in (ACCEPTED, ACCEPTED, ValueError("late")):
        line.answers[0](answer)
    assert (gateway.settled.outcomes, gateway.stations.in_hand) == ([ACCEPTED], 1)
    line.answers[1](ACCEPTED)
    assert gateway.settled.outcomes == [ACCEPTED] * 2


async def test_a_call_is_given_up_when_its_time_is_over_and_the_next_has_its_turn(
    gateway: Held, line: Line
) -> None:
    gateway.send(seconds=SHORT)
    gateway.send()
    await gateway.settled.first()
    assert (line.given_up, len(line.payloads)) == (1, 2)
    line.answers[0](ACCEPTED)  # nobody waits for it
    (outcome,) = gateway.settled.outcomes
    assert isinstance(outcome, Failure)
    assert (outcome.body, outcome.reason) == (None, Reason.EXPIRED)
    line.answers[1](ACCEPTED)
    assert (gateway.settled.outcomes[1:], gateway.stations.in_hand) == ([ACCEPTED], 0)


async def test_no_request_is_timed_out_early(gateway: Held, line: Line) -> None:
    ends: list[float] = []
    gateway.stations.settle = lambda request, outcome: ends.append(
        time.time() - (request.deadline or 0.0)
    )
    for number in range(5):
        gateway.connect_as(line, f"CP{number}")
        gateway.send(f"CP{number}", seconds=SHORT + number * SHORT / 7)
    async with asyncio.timeout(UNTIL_SETTLED):
        while gateway.stations.in_hand:
            await asyncio.sleep(SHORT)
    assert len(ends) == 5
    assert min(ends) >= 0


async def test_an_answer_that_has_come_before_the_loop_got_to_the_time_out_counts(
    gateway: Held, line: Line
) -> None:
    loop = asyncio.get_running_loop()
    gateway.send(seconds=SHORT)
    hold_up(10 * SHORT)  # the wheel is due in the loop's next turn
    loop.call_soon(loop.call_soon, loop.call_soon, line.answers[0], ACCEPTED)
    assert await gateway.settled.first() == ACCEPTED
    assert line.given_up == 0


async def test_a_station_that_is_lost_is_given_up_once_and_nothing_that_waits_is_sent(
    gateway: Held, line: Line
) -> None:
    station = gateway.stations.get("CP001")
    assert station is not None
    for _ in range(3):
        gateway.send()
    gateway.stations.disconnect(station)
    assert gateway.settled.outcomes == [Offline(False), Offline(False), Offline(True)]
    assert (line.given_up, len(line.payloads), gateway.stations.in_hand) == (1, 1, 0)
    line.answers[0](ACCEPTED)
    gateway.stations.disconnect(station)
    gateway.stations.close()
    assert (len(gateway.settled.outcomes), line.given_up) == (3, 1)


async def test_nothing_that_is_over_waits_for_the_garbage_collector() -> None:
    class Does(Line):
        def start_call(self, payload: bytes, on_answer: OnAnswer) -> None:
            self.payloads.append(payload)
            match len(self.payloads):
                case 1:
                    raise ValueError("secret")
                case 2:
                    on_answer(ACCEPTED)
                case 3:
                    on_answer(CallError("SecurityError"))
                case _:
                    self.answers.append(on_answer)

    gateway = Held()
    gateway.stations.settle = lambda request, outcome: None
    line = Does()
    station = gateway.connect_as(line)

    def play() -> None:
        line.payloads.clear()
        for _ in range(8):
            gateway.send()
        for _ in range(3):
            line.answers.pop()(ACCEPTED)
        gateway.stations.disconnect(station)
        line.answers.clear()
        gateway.stations.connect(station)

    play()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            play()
        assert gc.collect() == 0
    finally:
        gc.enable()
    gateway.stations.close()
