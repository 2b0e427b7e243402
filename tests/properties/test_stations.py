"""Whatever comes to a gateway, and whatever its stations do.

Each delivery is settled once, and each request is answered at most once.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import CallError, DataTransferRequest, DataTransferResponse
from bridge.dialects.names import Names, station_key
from bridge.gateway import GatewayLink, Reply, StationHandler, StationOffline
from bridge.ocpp import OcppVersion
from bridge.testing import MemoryBroker, MemoryTransport, gateway_topology
from bridge.transport import Delivery, Properties, Publishing, Subscription

STATIONS = ("CP1", "CP2", "é")
KNOWN_TYPES = {"DataTransferResponse", "CallError", "StationOffline"}

junk = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
sound = st.integers(0, 9).map(lambda number: b'{"vendorId":"v","data":%d}' % number)
bodies = st.binary(max_size=20) | st.sampled_from(
    [
        b"",
        b"{}",
        b'{"vendorId":"v"}',
        b'{"vendorId":"v","data":{"a":[1,null]}}',
        b'{"vendorId":"v","data":1e999}',
        b'{"vendorId":"v","data":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"vendorId":"v","data":"\xff"}',
        b'{"vendorId":"v","customData":{}}',
    ]
)


def mostly(usual: st.SearchStrategy[Any], rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Most messages are sound, or nothing would get as far as a station."""
    return st.integers(0, 9).flatmap(lambda number: usual if number else rare)


headers = st.fixed_dictionaries(
    {"ocpp-station-id": mostly(st.sampled_from(STATIONS), junk)},
    optional={
        "ocpp-deadline": mostly(
            st.integers(-5, 50).map(lambda ms: int(time.time() * 1000) + ms), junk
        ),
        "ocpp-version": mostly(st.sampled_from([version.value for version in OcppVersion]), junk),
        "traceparent": junk,
    },
)
properties = st.builds(
    Properties,
    headers=mostly(headers, st.none()),
    correlation_id=mostly(st.text(min_size=1, max_size=5), st.none()),
    reply_to=mostly(
        st.just("REPLIES"),
        st.sampled_from([None, "datatransfer.dead", "amq.gen-gone", "amq.rabbitmq.reply-to.x"]),
    ),
    expiration=st.none() | st.sampled_from(["0", "10", "60000"]),
    message_id=st.none() | st.sampled_from(["1", "2", ""]),
)
messages = st.lists(
    st.tuples(st.sampled_from(STATIONS), mostly(sound, bodies), properties), min_size=1, max_size=12
)
ends = st.lists(
    st.sampled_from(
        [
            "answer",
            "wait",
            "nonsense",
            "raise",
            "callerror",
            "offline",
            "reset",
            "timeout",
            "cancel",
            "invalid",
            "exit",
        ]
    ),
    min_size=1,
    max_size=8,
)
events = st.lists(st.sampled_from(["lose", "cut", "replace", "turn"]), max_size=5)


def behaving(ends: list[str]) -> Callable[[DataTransferRequest], Any]:
    """A station that does one thing after the other."""
    left = list(ends)

    async def handler(request: DataTransferRequest) -> Any:
        match left.pop() if left else "answer":
            case "wait":
                await asyncio.sleep(0.005)
            case "nonsense":
                return {"status": "Accepted"}
            case "raise":
                raise ValueError("secret")
            case "callerror":
                raise CallError("SecurityError")
            case "offline":
                raise StationOffline("CP1")
            case "reset":
                raise ConnectionResetError("secret")
            case "timeout":
                raise TimeoutError("secret")
            case "cancel":
                raise asyncio.CancelledError
            case "invalid":
                return DataTransferResponse("Perhaps")
            case "exit":
                raise SystemExit(3)
        return DataTransferResponse("Accepted", request.data)

    return handler


class Calls:
    """The same with callbacks. It may also answer twice."""

    def __init__(self, ends: list[str]) -> None:
        self._left = list(ends)

    def start_call(
        self, payload: bytes, on_answer: Callable[[Reply | BaseException], None]
    ) -> None:
        answer = Reply(b'{"status":"Accepted"}')
        loop = asyncio.get_running_loop()
        match self._left.pop() if self._left else "answer":
            case "wait":
                loop.call_later(0.005, on_answer, answer)
            case "nonsense":
                on_answer({"status": "Accepted"})  # type: ignore[arg-type]
            case "raise":
                raise ValueError("secret")
            case "callerror":
                on_answer(CallError("SecurityError"))
            case "offline":
                raise StationOffline("CP1")
            case "reset":
                on_answer(ConnectionResetError("secret"))
            case "timeout":
                loop.call_soon(on_answer, TimeoutError("secret"))
            case "cancel":
                on_answer(asyncio.CancelledError())
            case "invalid":
                on_answer(answer)
                raise ValueError("secret")
            case "exit":
                raise SystemExit(3)
            case _:
                loop.call_soon(on_answer, answer)
                loop.call_soon(on_answer, answer)

    def give_up_call(self) -> None: ...


handlers = st.sampled_from([behaving, Calls])


@settings(max_examples=150, deadline=None)
@given(messages=messages, ends=ends, events=events, handler=handlers)
def test_every_delivery_is_settled_once_and_every_answer_is_one_of_three(
    messages: list[tuple[str, bytes, Properties]],
    ends: list[str],
    events: list[str],
    handler: Callable[[list[str]], StationHandler],
) -> None:
    asyncio.run(play(messages, ends, events, handler))


async def play(
    messages: list[tuple[str, bytes, Properties]],
    ends: list[str],
    events: list[str],
    handler: Callable[[list[str]], StationHandler],
) -> None:
    broker = MemoryBroker()
    broker.declare(gateway_topology(Names()))
    replies: list[Delivery] = []
    reader = MemoryTransport(broker)
    await reader.start([Subscription("", 0, replies.append, no_ack=True)], lambda *_: None)
    transport = MemoryTransport(broker)
    async with GatewayLink(transport=transport, timeout=0.05) as link:
        for station, version in zip(STATIONS, ("ocpp1.6", "ocpp2.0.1", "ocpp2.1"), strict=True):
            await link.connect_station(station, version, handler(ends))
        asked = 0
        for station, body, properties in messages:
            reply_to = (
                reader.reply_queue if properties.reply_to == "REPLIES" else properties.reply_to
            )
            given = Properties(
                headers=None if properties.headers is None else dict(properties.headers),
                correlation_id=properties.correlation_id,
                reply_to=reply_to,
                expiration=properties.expiration,
                message_id=properties.message_id,
            )
            asked += reply_to == reader.reply_queue
            broker.publish(
                Publishing(
                    station_key(station), body, given, "datatransfer.stations", mandatory=True
                )
            )
        for event in events:
            match event:
                case "lose":
                    await link.disconnect_station("CP1")
                case "cut":
                    broker.cut()
                case "replace":
                    await link.connect_station("CP2", "ocpp1.6", handler(ends))
                case "turn":
                    await asyncio.sleep(0.001)
        if "cut" in events:
            return  # the reader's queue was private too
        async with asyncio.timeout(5):
            while link.in_hand or (
                transport._connection is not None and transport._connection.unsettled
            ):
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)
        counts = link.counts
        assert counts.received == counts.answered + counts.offline + counts.late
        assert len(replies) <= asked
        for reply in replies:
            assert reply.properties.type in KNOWN_TYPES
            assert b"secret" not in reply.body
        assert link._once.followers == {}
    await reader.close()
