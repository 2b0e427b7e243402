"""How a start looks for a broker: which host, how long, and what is told in the end."""

import asyncio
from collections.abc import Callable, Sequence

import aiormq
import pytest
from yarl import URL

from bridge.rabbitmq import transport as module
from bridge.rabbitmq.losses import LOST, telling
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import HostOrder, parse_urls
from bridge.transport import BrokerUnreachable, State, Subscription

LOGIN = aiormq.exceptions.ProbableAuthenticationError("ACCESS_REFUSED - Login was refused")
LIMIT = aiormq.exceptions.ConnectionClosed(
    "the broker closed the connection: 530 NOT_ALLOWED - user connection limit (1) is reached"
)
REFUSED = OSError("Connection refused (127.0.0.1)")
SILENT = TimeoutError()


class Hosts:
    """What each attempt to open a session at a host comes to; afterwards, the last again."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, **outcomes: Sequence[Exception | None]
    ) -> None:
        self._outcomes = {host: list(each) for host, each in outcomes.items()}
        self.tried: list[str] = []
        monkeypatch.setattr(module, "Session", lambda *_: FakeSession(self.attempt))
        monkeypatch.setattr(module, "back_off", lambda _: 0.0)

    def attempt(self, url: URL) -> None:
        assert url.host is not None
        self.tried.append(url.host)
        outcomes = self._outcomes[url.host]
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if outcome is not None:
            raise outcome

    def transport(
        self, start_timeout: float, order: HostOrder = HostOrder.GIVEN
    ) -> RabbitTransport:
        urls = parse_urls([f"amqp://{host}/" for host in self._outcomes])
        return RabbitTransport(urls, start_timeout=start_timeout, host_order=order)


class FakeSession:
    bind_lane = None
    blocked = False
    consumes = False
    reply_queue = None
    unsettled = 0

    def __init__(self, attempt: Callable[[URL], None]) -> None:
        self._attempt = attempt
        self.opened = asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def open(self, url: URL, _: object, __: Sequence[Subscription], ___: float) -> None:
        self._attempt(url)

    def void(self) -> None: ...

    async def abandon(self) -> None: ...

    async def close(self) -> None: ...


async def started(transport: RabbitTransport) -> State:
    async with asyncio.timeout(30):
        await transport.start([], lambda *_: None)
    state = transport.state
    await transport.close()
    return state


async def refused(transport: RabbitTransport) -> str:
    with pytest.raises(BrokerUnreachable) as caught:
        async with asyncio.timeout(30):
            await transport.start([], lambda *_: None)
    return str(caught.value)


@pytest.mark.parametrize("refusal", [LOGIN, LIMIT, SILENT, REFUSED])
async def test_a_refusal_that_passes_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    hosts = Hosts(monkeypatch, a=[refusal, refusal, refusal, None])
    assert await started(hosts.transport(30.0)) is State.CONSUMING
    assert hosts.tried == ["a"] * 4


@pytest.mark.parametrize("refusal", [LOGIN, LIMIT, SILENT, REFUSED])
async def test_a_host_that_refuses_keeps_nobody_from_the_next(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    hosts = Hosts(monkeypatch, a=[refusal], b=[REFUSED], c=[None])
    assert await started(hosts.transport(0.0)) is State.CONSUMING
    assert hosts.tried == ["a", "b", "c"]


@pytest.mark.parametrize("last", [SILENT, REFUSED])
async def test_when_the_time_is_over_the_most_telling_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, last: Exception
) -> None:
    hosts = Hosts(monkeypatch, a=[REFUSED], b=[LOGIN], c=[last])
    assert await refused(hosts.transport(0.0)) == (
        "no broker at amqp://b/: it refused the user name or password (and none at 2 others)"
    )
    assert hosts.tried == ["a", "b", "c"]


async def test_a_refusal_is_tried_again_until_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts = Hosts(monkeypatch, a=[LIMIT])
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert "user connection limit (1) is reached" in await refused(hosts.transport(0.2))
    assert loop.time() - begun >= 0.2
    assert len(hosts.tried) > 2


async def test_the_pause_before_the_last_attempt_ends_with_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts = Hosts(monkeypatch, a=[LIMIT])
    monkeypatch.setattr(module, "back_off", lambda _: 3600.0)
    await refused(hosts.transport(0.1))
    assert len(hosts.tried) == 2


async def test_each_failure_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = Hosts(monkeypatch, a=[LOGIN, None])
    await started(hosts.transport(30.0))
    [told] = [line for line in caplog.messages if "broker unreachable" in line]
    assert "it refused the user name or password" in told


async def test_a_fleet_spreads_over_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts(monkeypatch, a=[None], b=[None], c=[None])
    for _ in range(100):
        await started(hosts.transport(0.0, HostOrder.RANDOM))
    assert set(hosts.tried) == {"a", "b", "c"}


def test_what_tells_most() -> None:
    errors = [
        SILENT,
        REFUSED,
        aiormq.exceptions.ConnectionClosed("541 INTERNAL_ERROR"),
        LIMIT,
    ]
    assert sorted(errors, key=telling) == errors
    assert telling(LOGIN) == telling(LIMIT)
    assert all(isinstance(error, LOST) for error in (*errors, LOGIN))
