"""Questions and their answers, over the broker in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from bridge.client import requester as module
from bridge.client.errors import NoAnswer, NotAccepted, StationOffline
from bridge.client.requester import Requester
from bridge.dialects import Dialect, WebOcpp
from bridge.dialects.dialect import Question
from bridge.testing import MemoryBroker, MemoryQueue, MemoryTransport, Message
from bridge.transport import Properties, Publishing, State

SOON = 0.02
LATER = 10.0


class Side:
    """A requester, and the queue that its questions come to."""

    def __init__(self, dialect: Dialect | None = None) -> None:
        self.broker = MemoryBroker()
        self.broker.declare_exchange("amq.topic", "topic")
        self.inbox: MemoryQueue = self.broker.declare_queue("inbox")
        self.transport = MemoryTransport(self.broker)
        self.requester = Requester(self.transport, dialect)

    async def start(self) -> None:
        await self.transport.start(
            [self.requester.subscription], lambda *_: self.requester.on_state()
        )

    async def asked(self, count: int = 1) -> Message:
        """The newest question in the inbox, once there are so many."""
        async with asyncio.timeout(LATER):
            while len(self.inbox.ready) < count:
                await asyncio.sleep(0)
        return self.inbox.ready[-1]

    def answer(self, question: Message, body: bytes = b"{}", type_: str | None = None) -> None:
        properties = Properties(correlation_id=question.properties.correlation_id, type=type_)
        self.broker.publish(Publishing(question.properties.reply_to or "", body, properties))


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    made = Side()
    await made.start()
    yield made
    await made.transport.close()
    made.requester.close()


def to(queue: str = "inbox") -> Callable[[str, str], Publishing]:
    def publishing(correlation_id: str, reply_to: str) -> Publishing:
        properties = Properties(correlation_id=correlation_id, reply_to=reply_to)
        return Publishing(queue, b"?", properties, mandatory=True)

    return publishing


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_question_is_published_again_on_the_next_connection(side: Side) -> None:
    asked = asyncio.create_task(side.requester.ask(Question("CP1", to()), LATER))
    first = await side.asked()
    side.broker.cut()
    second = await side.asked(2)
    assert second.properties.correlation_id == first.properties.correlation_id
    assert second.properties.reply_to != first.properties.reply_to
    side.answer(second)
    assert (await asked).body == b"{}"


async def test_one_that_nobody_would_absorb_is_published_once(side: Side) -> None:
    asked = asyncio.create_task(side.requester.ask(Question("CP1", to(), once=True), LATER))
    await side.asked()
    side.broker.cut()
    await turns()
    assert side.transport.state is State.CONSUMING
    assert len(side.inbox.ready) == 1
    asked.cancel()


async def test_a_question_may_bring_the_id_of_its_answer(side: Side) -> None:
    question = Question("CP1", to(), correlation_id="m-1")
    asked = asyncio.create_task(side.requester.ask(question, LATER))
    asked_for = await side.asked()
    assert asked_for.properties.correlation_id == "m-1"
    with pytest.raises(ValueError, match="'m-1' waits for its answer already"):
        await side.requester.ask(question, LATER)
    side.answer(asked_for)
    await asked


async def test_where_no_queue_takes_it_the_caller_says_what_that_means(side: Side) -> None:
    with pytest.raises(NotAccepted, match="is the topology declared"):
        await side.requester.ask(Question("CP1", to("nowhere")), LATER)
    with pytest.raises(StationOffline):
        await side.requester.ask(
            Question("CP1", to("nowhere")), LATER, nobody=lambda: StationOffline("CP1")
        )


async def test_a_patient_question_waits_for_a_queue(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNROUTED_PAUSE", SOON)
    question = Question("CP1", to("late"))
    asked = asyncio.create_task(side.requester.ask(question, LATER, patient=True))
    await turns()
    side.inbox = side.broker.declare_queue("late")
    side.answer(await side.asked())
    await asked
    with pytest.raises(NotAccepted):
        await side.requester.ask(Question("CP1", to("nowhere")), 3 * SOON, patient=True)


async def test_a_queue_that_goes_on_refusing_is_full(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFUSALS", 1)
    side.inbox.full = True
    with pytest.raises(NotAccepted, match="queue is full"):
        await side.requester.ask(Question("CP1", to()), LATER)


async def test_without_an_answer_in_time_there_is_none_and_what_comes_then_is_late(
    side: Side,
) -> None:
    with pytest.raises(NoAnswer, match=r"no answer within 0\.02 s"):
        await side.requester.ask(Question("CP1", to()), SOON)
    assert len(side.requester) == 0
    side.answer(await side.asked())
    await turns()
    assert side.requester.late == 1


async def test_a_reply_of_another_station_is_not_the_answer(side: Side) -> None:
    asked = asyncio.create_task(side.requester.ask(Question("CP1", to()), LATER))
    question = await side.asked()
    headers = {"ocpp-station-id": "CP2"}
    reply_to = question.properties.reply_to or ""
    correlation_id = question.properties.correlation_id
    properties = Properties(correlation_id=correlation_id, headers=headers)
    side.broker.publish(Publishing(reply_to, b"theirs", properties))
    side.answer(question, b"ours")
    assert (await asked).body == b"ours"
    assert side.requester.late == 1


async def test_a_station_that_was_lost_before_it_was_asked_is_asked_once_more(side: Side) -> None:
    asked = asyncio.create_task(side.requester.ask(Question("CP1", to()), LATER))
    lost = b'{"sent":false}'
    side.answer(await side.asked(), lost, type_="StationOffline")
    side.answer(await side.asked(2), lost, type_="StationOffline")
    assert (await asked).body == lost
    assert len(side.inbox.ready) == 2


async def test_answers_to_others_are_not_late() -> None:
    """In a dialect whose gateway sends every station's answer to whoever listens."""
    side = Side(WebOcpp())
    await side.start()
    question = Question("CP1", to(), once=True)
    asked = asyncio.create_task(side.requester.ask(question, LATER))
    correlation_id = (await side.asked()).properties.correlation_id or ""

    def answered(message_id: str, body: str = '{"status":"Accepted"}') -> None:
        properties = Properties(reply_to="CP1", correlation_id=message_id)
        frame = f'[3,"{message_id}",{body}]'.encode()
        side.broker.publish(Publishing("ocpp201.DataTransfer.conf", frame, properties, "amq.topic"))

    answered("somebody-elses")
    answered("somebody-elses", "")  # cannot be read
    answered(correlation_id)
    assert (await asked).body == b'{"status":"Accepted"}'
    await turns()
    assert side.requester.late == 0
    answered(correlation_id)
    await turns()
    assert side.requester.late == 1
    await side.transport.close()


async def test_in_the_native_dialect_every_reply_is_to_us_and_one_that_nobody_asked_for_is_late(
    side: Side,
) -> None:
    side.broker.publish(Publishing(side.transport.reply_queue or "", b"", Properties()))
    await turns()
    assert side.requester.late == 1


async def test_who_still_waits_when_it_is_closed_has_no_answer(side: Side) -> None:
    asked = asyncio.create_task(side.requester.ask(Question("CP1", to()), LATER))
    await side.asked()
    side.requester.close()
    with pytest.raises(NoAnswer, match="before the connection was closed"):
        await asked
    await side.requester.idle()
