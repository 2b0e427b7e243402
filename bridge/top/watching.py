"""Looks at a fleet again and again: its workers and its broker at the same time."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final, Self

from yarl import URL

from bridge.dialects.names import Names
from bridge.rabbitmq.depths import Depths
from bridge.rabbitmq.management import (
    LiveQueue,
    Management,
    ManagementError,
    open_management,
    virtual_host,
)
from bridge.top.scraping import Answer, Scraper
from bridge.top.view import (
    BrokerCounts,
    QueueDepth,
    Sort,
    View,
    by_vendor,
    make_view,
    queues_of,
)
from bridge.transport import TransportError

BROKER_TIMEOUT: Final = 2.0
"""Seconds for the broker's counts. When they take longer, the last ones are shown."""
ASK_AGAIN: Final = 30.0
"""Seconds after which a management API is tried again that could not be used."""
NOT_ASKED: Final = "not asked yet"


class Watcher:
    """What a fleet does, as one view after the other. A context manager."""

    def __init__(
        self,
        workers: Sequence[URL],
        brokers: Sequence[URL],
        management: Sequence[URL],
        names: Names,
        sort: Sort = Sort.RATE,
    ) -> None:
        """`workers`: where they serve their metrics. `brokers`, `management`: of the broker."""
        self._scraper = Scraper(workers)
        self._brokers = brokers
        self._management_urls = management
        self._names = names
        self._sort = sort
        self._depths = Depths(brokers, "dtbridge top", BROKER_TIMEOUT)
        self._management: Management | None = None
        self._management_error = ""
        self._try_management_at = 0.0
        self._before: dict[str, Answer] = {}
        self._counts = BrokerCounts(error=NOT_ASKED)
        self._asking: asyncio.Task[BrokerCounts] | None = None

    async def __aenter__(self) -> Self:
        await self._scraper.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking
        await self._depths.__aexit__()
        await self._scraper.__aexit__()

    async def look(self) -> View:
        """The fleet as it is, with what has happened since the last look."""
        answers = await self._scraper.scrape()
        await self._ask_broker(queues_of(answers, self._names))
        view = make_view(self._before, answers, self._counts, self._names, self._sort)
        silent = {name: self._before[name] for name in answers.keys() & self._before.keys()}
        # What a silent worker said last is kept: its next answer is compared with that.
        self._before = {
            name: silent.get(name, answer) if answer.error else answer
            for name, answer in answers.items()
        }
        return view

    async def _ask_broker(self, queues: Sequence[str]) -> None:
        if self._asking is None:
            self._asking = asyncio.create_task(self._broker(queues))
        done, _ = await asyncio.wait({self._asking}, timeout=BROKER_TIMEOUT)
        if done:
            self._counts = self._asking.result()
            self._asking = None

    async def _broker(self, queues: Sequence[str]) -> BrokerCounts:
        """From the management API, or else over AMQP. Never raises."""
        management = await self._find_management()
        if management is not None:
            try:
                found = await management.queues(virtual_host(self._brokers[0]), self._names.prefix)
            except ManagementError as error:
                self._lose_management(str(error))
            else:
                now = time.time()
                counts = {queue.name: _depth(queue, now) for queue in found}
                return BrokerCounts(by_vendor(counts), "management")
        try:
            depths = await self._depths.of(dict.fromkeys([self._names.dead, *queues]))
        except TransportError as error:
            return BrokerCounts(error=f"no broker: {error}")
        return BrokerCounts(
            by_vendor(
                {name: QueueDepth(depth.ready, depth.consumers) for name, depth in depths.items()}
            ),
            "amqp",
            self._management_error,
        )

    async def _find_management(self) -> Management | None:
        if self._management is None and time.monotonic() >= self._try_management_at:
            try:
                self._management = await open_management(self._management_urls, BROKER_TIMEOUT)
            except ManagementError as error:
                self._lose_management(str(error))
        return self._management

    def _lose_management(self, why: str) -> None:
        self._management = None
        self._management_error = why
        self._try_management_at = time.monotonic() + ASK_AGAIN


def _depth(queue: LiveQueue, now: float) -> QueueDepth:
    since = queue.head_message_timestamp
    return QueueDepth(
        ready=queue.messages_ready,
        consumers=queue.consumers,
        in_hand=queue.messages_unacknowledged,
        oldest=None if since is None or not queue.messages else max(0.0, now - since),
        rate=queue.message_stats.ack_details.rate,
    )
