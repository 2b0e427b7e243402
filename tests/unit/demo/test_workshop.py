"""The demo's handlers give the answers that the corpus expects, without a broker."""

import asyncio
import subprocess
import sys
import time

import pytest

from bridge.demo.corpus import CORPUS, Message, Row
from bridge.demo.verdict import Answer, judge
from bridge.demo.workshop import CRASH_TEXT, routers
from bridge.ocpp import OcppVersion
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Reply
from bridge.request.outcome import Outcome as Dispatched
from bridge.routing.router import Routes
from bridge.transport import Delivery, Properties
from bridge.worker.dispatch import Dispatcher


def request_of(message: Message) -> Request:
    return Request(
        body=message.payload,
        station_id=message.station_id,
        version=OcppVersion(message.ocpp_version),
        ocpp_message_id="b3f1",
        deadline=time.time() + 10,
        attempt=1,
        redelivered=False,
        reply_wanted=True,
        source=Delivery("datatransfer", "v", False, Properties(), message.payload),
    )


async def answer_to(message: Message) -> Answer:
    settled: asyncio.Future[Dispatched] = asyncio.get_running_loop().create_future()
    dispatcher = Dispatcher(Routes(routers))
    dispatcher.settle = lambda _, outcome: settled.set_result(outcome)
    try:
        dispatcher.dispatch(request_of(message))
        outcome = await settled
    finally:
        dispatcher.close()
    if isinstance(outcome, Reply):
        return Answer(outcome.kind.value, outcome.body)
    assert isinstance(outcome, Failure)
    assert outcome.body is not None
    return Answer(Kind.CALL_ERROR.value, outcome.body)


FORWARDED = [
    message for message in CORPUS if message.row not in {Row.BROKEN_FRAME, Row.OTHER_ACTION}
]


@pytest.mark.parametrize("message", FORWARDED, ids=lambda message: message.name)
async def test_every_message_gets_exactly_its_answer(message: Message) -> None:
    answer = await answer_to(message)
    outcome = judge(answer, message.answer)
    assert outcome.fits, f"{outcome.kind} {outcome.detail}"
    assert CRASH_TEXT.encode() not in answer.body


def test_the_handlers_need_neither_a_screen_nor_an_amqp_client() -> None:
    unwanted = {"rich", "aio_pika", "aiormq", "websockets"}
    code = f"import sys, bridge.demo.workshop; print(sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
