"""What tests of several rooms share: requests, and their way through a Dispatcher."""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET

from bridge import Router
from bridge.ocpp import DEFAULT_VERSION, OcppVersion
from bridge.request.incoming import Request
from bridge.request.outcome import Outcome, Settle
from bridge.routing.router import Routes
from bridge.transport import Delivery, Properties, Publishing, Verdict
from bridge.worker.dispatch import Dispatcher

UNTIL_SETTLED = 10.0
"""Seconds until a test gives up on what should happen at once."""


def payload(vendor_id: str = "v", message_id: str | None = "m", data: Any = UNSET) -> bytes:
    fields = {"vendorId": vendor_id, "messageId": message_id, "data": data}
    return msgspec.json.encode(
        {name: value for name, value in fields.items() if value is not UNSET}
    )


def a_request(
    body: bytes | None = None,
    *,
    version: OcppVersion = DEFAULT_VERSION,
    deadline: float | None = None,
    attempt: int = 1,
    redelivered: bool = False,
    fault: str | None = None,
    source: Delivery | None = None,
    first_try: float | None = None,
    ocpp_message_id: str | None = "1",
    origin: Any = "connection",
    told_apart: bool = True,
) -> Request:
    body = payload() if body is None else body
    return Request(
        body=body,
        station_id="CP001",
        version=version,
        ocpp_message_id=ocpp_message_id,
        deadline=deadline,
        attempt=attempt,
        redelivered=redelivered,
        reply_wanted=True,
        fault=fault,
        source=source or Delivery("datatransfer", "v", redelivered, Properties(), body),
        first_try=first_try,
        origin=origin,
        told_apart=told_apart,
    )


class Kept(Delivery, eq=False, gc=True):
    """A delivery that keeps what it is settled with, and may not be settled twice."""

    verdict: Verdict | None = None
    reply: Publishing | None = None
    copy: Publishing | None = None
    sendable: bool = True
    """Whether a copy fits a frame."""
    settled: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    def settle(
        self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
    ) -> None:
        assert self.verdict is None, "settled twice"
        if copy is not None and not self.sendable:
            raise ValueError("properties of 200000 bytes do not fit a frame")
        self.verdict, self.reply, self.copy = verdict, reply, copy
        self.settled.set()


class Settled:
    """A Dispatcher's `settle` that keeps the outcomes."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._something = asyncio.Event()

    def __call__(self, request: Request, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._something.set()

    async def first(self) -> Outcome:
        await self.until(1)
        return self.outcomes[0]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(UNTIL_SETTLED):
            while len(self.outcomes) < count:
                self._something.clear()
                await self._something.wait()


def a_dispatcher(routers: Router | Iterable[Router], settle: Settle, **settings: Any) -> Dispatcher:
    """One with nothing before it but `settle`."""
    routes = Routes([routers] if isinstance(routers, Router) else routers)
    dispatcher = Dispatcher(routes, **settings)
    dispatcher.settle = settle
    return dispatcher


async def dispatched(
    routers: Router | Iterable[Router], request: Request, **settings: Any
) -> Outcome:
    """The outcome of a request, and a check that there is only one."""
    settled = Settled()
    dispatcher = a_dispatcher(routers, settled, **settings)
    dispatcher.dispatch(request)
    outcome = await settled.first()
    await asyncio.sleep(0)  # a second outcome would come in the next turn of the loop
    dispatcher.close()
    assert settled.outcomes == [outcome]
    return outcome
