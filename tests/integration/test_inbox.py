"""Effects that happen exactly once, on a real PostgreSQL that is killed, stopped and locked."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bridge import (
    Call,
    CallError,
    DataTransferResponse,
    DataTransferStatus,
    ErrorCode,
    LifespanError,
    NoAnswer,
    Rejected,
    Retry,
    RetryPolicy,
    Router,
)
from bridge.idempotency import Inbox, Key, Store, exactly_once, postgres
from bridge.idempotency.inbox_table import statements
from bridge.request.outcome import Reply
from bridge.testing import TestBridge, ask
from bridge.transport import Properties, Publishing
from tests.postgres_server import PostgresServer
from tests.support import Kept

PATIENCE = 20.0
"""Seconds."""
SOON = RetryPolicy(first=0.0, attempts=100)
VENDOR = "com.acme"


class Started(msgspec.Struct):
    number: int
    run: str
    """A mark of the run of the handler that made the answer."""


@pytest.fixture
async def database(database: str) -> str:
    """One with the table of an inbox, and one for effects."""
    await Inbox.create_schema(database)
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute("CREATE TABLE effects (number int, run text)")
    return database


Before = Callable[[Call[Inbox], Inbox], Awaitable[Any]]
"""What a handler does between its effect and its answer."""


async def nothing(call: Call[Inbox], inbox: Inbox) -> None: ...


class Acme:
    """A vendor whose handler has an effect, and a worker with it."""

    def __init__(
        self,
        database: Any,
        then: Before = nothing,
        *,
        retry: RetryPolicy = SOON,
        **options: Any,
    ) -> None:
        """`options`: of the inbox."""
        self.database = database
        self.runs = 0
        self.then = then
        self.inbox: Inbox
        self.router = Router(VENDOR, retry=retry, timeout=PATIENCE)
        self._options = options
        self.router.lifespan(self._open)
        self.router.middleware(exactly_once)
        self.router.on("Start")(self._start)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Inbox]:
        async with Inbox(self.database, **self._options) as self.inbox:
            yield self.inbox

    async def _start(self, call: Call[Inbox], number: int) -> Any:
        self.runs += 1
        run = secrets.token_hex(4)
        connection = call.state.connection
        await connection.execute("INSERT INTO effects VALUES (%s, %s)", (number, run))
        answer = await self.then(call, call.state)
        return Started(number, run) if answer is None else answer

    @asynccontextmanager
    async def worker(self, store: Store | None = None) -> AsyncIterator["Worker"]:
        async with TestBridge(self.router, store=store) as bridge:
            yield Worker(bridge)


class Forgetful:
    """A store that knows nothing, as that of a worker which has just been started."""

    def begin(self, key: Key) -> None: ...

    def finish(self, key: Key, reply: Reply) -> None: ...

    def forget(self, key: Key) -> None: ...


class Worker:
    def __init__(self, bridge: TestBridge) -> None:
        self.bridge = bridge

    async def ask(self, number: int = 1, message_id: str = "m-1") -> DataTransferResponse:
        """Send a request, on the connection that its station had before."""
        return await self.bridge.data_transfer(
            "CP001", VENDOR, "Start", number, ocpp_message_id=message_id, connection_id="c-1"
        )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def rows(database: str, table: str = "effects") -> list[Any]:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute(f"SELECT * FROM {table} ORDER BY 1".encode())
        return await cursor.fetchall()


async def effects(database: str) -> list[int]:
    return [number for number, _ in await rows(database)]


# ---- what is kept ----


async def test_what_one_worker_has_done_another_is_told_and_does_not_do_again(
    database: str,
) -> None:
    first, second = Acme(database), Acme(database)
    async with first.worker() as one, second.worker() as two:
        answer = await one.ask()
        assert await two.ask() == answer
        assert (await two.ask(2, "m-2")).data["number"] == 2
        assert (first.runs, second.runs) == (1, 1)
    assert await effects(database) == [1, 2]
    assert answer.data["run"] == (await rows(database))[0][1]


async def test_a_handler_that_fails_has_no_effect_and_runs_again(database: str) -> None:
    async def fail(call: Call[Inbox], inbox: Inbox) -> None:
        if acme.runs == 1:
            raise ZeroDivisionError

    acme = Acme(database, fail)
    async with acme.worker() as worker:
        with pytest.raises(CallError):
            await worker.ask()
        assert await effects(database) == []
        assert await rows(database, "dtbridge_inbox") == []
        assert (await worker.ask()).status == "Accepted"
    assert await effects(database) == [1]


@pytest.mark.parametrize("error", [Rejected("NoTariff"), CallError(ErrorCode.GENERIC_ERROR, "no")])
async def test_a_refusal_undoes_what_the_handler_did_and_is_kept(
    database: str, error: Exception
) -> None:
    async def refuse(call: Call[Inbox], inbox: Inbox) -> None:
        raise error

    async def answer(worker: Worker) -> Any:
        try:
            return await worker.ask()
        except CallError as told:
            return told.code, told.description

    first, second = Acme(database, refuse), Acme(database)
    async with first.worker() as one, second.worker() as two:
        told = await answer(one)
        assert await answer(two) == told
        assert second.runs == 0
    assert await effects(database) == []
    assert len(await rows(database, "dtbridge_inbox")) == 1


async def test_a_response_that_is_returned_keeps_what_the_handler_did(database: str) -> None:
    async def refuse(call: Call[Inbox], inbox: Inbox) -> Any:
        return DataTransferResponse(DataTransferStatus.REJECTED)

    first, second = Acme(database, refuse), Acme(database)
    async with first.worker() as one, second.worker() as two:
        assert (await one.ask()).status == (await two.ask()).status == "Rejected"
    assert await effects(database) == [1]


async def test_another_try_begins_with_nothing(database: str) -> None:
    async def later(call: Call[Inbox], inbox: Inbox) -> None:
        if call.attempt == 1:
            raise Retry(after=0)

    acme = Acme(database, later)
    async with acme.worker() as worker:
        assert (await worker.ask()).status == "Accepted"
    assert acme.runs == 2
    assert await effects(database) == [1]


@pytest.mark.parametrize("answer", [object(), "x" * (postgres.MAX_REPLY + 1)], ids=["odd", "large"])
async def test_an_answer_that_cannot_be_sent_undoes_what_the_handler_did(
    database: str, answer: Any
) -> None:
    async def give(call: Call[Inbox], inbox: Inbox) -> Any:
        return answer

    async with Acme(database, give).worker() as worker:
        with pytest.raises(CallError):
            await worker.ask()
    assert await effects(database) == []


async def test_a_request_without_a_message_id_has_a_transaction_and_no_name(database: str) -> None:
    async def fail(call: Call[Inbox], inbox: Inbox) -> None:
        assert call.idempotency_key is None
        if acme.runs == 1:
            raise ZeroDivisionError

    acme = Acme(database, fail)
    async with acme.worker() as worker:
        for count in (1, 2, 3):
            publish(worker, None)
            await tried(worker, count)
    assert await effects(database) == [1, 1]
    assert await rows(database, "dtbridge_inbox") == []


def publish(worker: Worker, message_id: str | None) -> None:
    """As a gateway that names neither connection nor deadline: message ids come again."""
    properties = Properties(headers={"ocpp-station-id": "CP001"}, message_id=message_id)
    body = b'{"vendorId":"com.acme","messageId":"Start","data":1}'
    worker.bridge.broker.publish(Publishing(VENDOR, body, properties, "datatransfer"))


async def tried(worker: Worker, count: int) -> None:
    """Wait until requests were tried so often."""
    await until(lambda: len(worker.bridge.tries) >= count)


async def test_a_later_request_of_the_same_name_is_handled_and_takes_its_place(
    database: str,
) -> None:
    async def later(call: Call[Inbox], inbox: Inbox) -> None:
        assert call.key_comes_again is (call.attempt == 1)
        if acme.runs == 2:
            raise Retry(after=0)

    acme = Acme(database, later)
    async with acme.worker(Forgetful()) as worker:
        publish(worker, "m-1")
        await tried(worker, 1)
        publish(worker, "m-1")
        await tried(worker, 3)
    assert acme.runs == 3, "its second try was not given the reply of the first request"
    assert await effects(database) == [1, 1]
    [[_, _, reply, _]] = await rows(database, "dtbridge_inbox")
    assert (await rows(database))[1][1].encode() in reply


@pytest.mark.parametrize(("minutes", "runs"), [(9, 1), (11, 2)])
async def test_where_names_come_again_a_repetition_is_known_for_ten_minutes(
    database: str, minutes: int, runs: int
) -> None:
    """The broker says that it delivered the request before; nobody knows whether it was begun."""
    acme = Acme(database)
    async with acme.worker(Forgetful()) as worker:
        publish(worker, "m-1")
        await tried(worker, 1)
        async with await psycopg.AsyncConnection.connect(database) as connection:
            await connection.execute(
                "UPDATE dtbridge_inbox SET handled_at = now() - make_interval(mins => %s)",
                (minutes,),
            )
        [intake] = [each for each in worker.bridge.worker.intakes if VENDOR in each.queue]
        properties = Properties(headers={"ocpp-station-id": "CP001"}, message_id="m-1")
        body = b'{"vendorId":"com.acme","messageId":"Start","data":1}'
        intake.on_delivery(Kept("datatransfer", VENDOR, True, properties, body))
        await tried(worker, 2)
    assert acme.runs == runs
    assert await effects(database) == [1] * runs


# ---- several at a time ----


async def test_a_request_that_is_in_hand_elsewhere_comes_back_and_is_told_what_it_came_to(
    database: str,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(call: Call[Inbox], inbox: Inbox) -> None:
        begun.set()
        await go_on.wait()

    first, second = Acme(database, wait), Acme(database)
    async with first.worker() as one, second.worker() as two:
        asked = asyncio.create_task(one.ask())
        await begun.wait()
        again = asyncio.create_task(two.ask())
        await until(lambda: bool(two.bridge.tries))
        assert second.runs == 0
        assert two.bridge.worker.counts.retried == 1
        go_on.set()
        assert await again == await asked
        assert [tried.attempt for tried in two.bridge.tries] == [1, 1], "it was no try"
    assert await effects(database) == [1]


async def test_of_two_transactions_for_one_request_one_commits(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the lock is of no use, the primary key is."""
    monkeypatch.setattr(
        "bridge.idempotency.inbox_table._BEGIN",
        "SELECT %(lock)s::bigint, true, kept.kind, kept.reply "
        "FROM (SELECT) AS one LEFT JOIN {table} AS kept ON kept.request = %(request)s",
    )
    together = asyncio.Barrier(2)

    async def meet(call: Call[Inbox], inbox: Inbox) -> None:
        await together.wait()

    first, second = Acme(database, meet), Acme(database, meet)
    async with first.worker() as one, second.worker() as two:
        answers = await asyncio.gather(one.ask(), two.ask())
    assert (first.runs, second.runs) == (1, 1)
    assert answers[0] == answers[1]
    assert await effects(database) == [1]


async def test_many_requests_that_come_twice_at_two_workers(database: str) -> None:
    workers = [Acme(database), Acme(database)]
    async with workers[0].worker() as one, workers[1].worker() as two:
        answers = await asyncio.gather(
            *(each.ask(n, f"m-{n}") for n in range(60) for each in (one, two))
        )
    assert answers[::2] == answers[1::2]
    assert await effects(database) == [*range(60)]
    assert sum(each.runs for each in workers) == 60


async def test_requests_share_a_few_connections_and_wait_for_them(database: str) -> None:
    seen: list[int] = []

    async def count(call: Call[Inbox], inbox: Inbox) -> None:
        cursor = await inbox.connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dtbridge'"
        )
        seen.extend(await cursor.fetchone() or ())

    async with Acme(database, count, connections=3).worker() as worker:
        await asyncio.gather(*(worker.ask(n, f"m-{n}") for n in range(40)))
    assert min(seen) >= 1  # the one that asks
    assert max(seen) <= 3
    assert await effects(database) == [*range(40)]


async def test_a_request_for_which_no_connection_comes_free_is_tried_again(database: str) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(call: Call[Inbox], inbox: Inbox) -> None:
        begun.set()
        await go_on.wait()

    acme = Acme(database, wait, connections=1, timeout=0.1)
    async with acme.worker() as worker:
        asked = [asyncio.create_task(worker.ask(1, "m-1"))]
        await begun.wait()
        asked.append(asyncio.create_task(worker.ask(2, "m-2")))
        await until(lambda: bool(worker.bridge.worker.counts.retried))
        go_on.set()
        assert [(await each).status for each in asked] == ["Accepted"] * 2
    assert await effects(database) == [1, 2]


# ---- what breaks ----


@pytest.mark.parametrize("end", [PostgresServer.kill, PostgresServer.stop], ids=["kill", "stop"])
async def test_a_database_that_goes_before_the_commit_has_kept_nothing_and_the_request_comes_again(
    database: str, postgres: PostgresServer, end: Callable[[PostgresServer], None]
) -> None:
    async def lose(call: Call[Inbox], inbox: Inbox) -> None:
        if acme.runs == 1:
            end(postgres)
            postgres.start()

    acme = Acme(database, lose)
    async with acme.worker() as worker:
        assert (await worker.ask()).data["number"] == 1
        assert worker.bridge.worker.counts.retried >= 1
    assert acme.runs == 2
    assert await effects(database) == [1]


async def test_a_database_that_is_away_costs_tries_and_no_request(
    database: str, postgres: PostgresServer
) -> None:
    acme = Acme(database, timeout=0.2)
    async with acme.worker() as worker:
        assert (await worker.ask()).status == "Accepted"
        postgres.stop()
        asked = asyncio.create_task(worker.ask(2, "m-2"))
        await until(lambda: bool(worker.bridge.worker.counts.retried))
        postgres.start()
        assert (await asked).data["number"] == 2
        worker.bridge.assert_no_dead_letters()
    assert await effects(database) == [1, 2]


class _Cut(psycopg.AsyncConnection[Any]):
    """A connection that is lost when it has committed for the first time."""

    commits = 0

    @asynccontextmanager
    async def transaction(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        async with super().transaction() as transaction:
            yield transaction
        _Cut.commits += 1
        if _Cut.commits == 1:
            raise psycopg.OperationalError("server closed the connection unexpectedly")


async def test_a_commit_without_an_answer_is_found_by_the_next_try(database: str) -> None:
    async with AsyncConnectionPool(database, connection_class=_Cut, open=False) as pool:
        acme = Acme(pool)
        async with acme.worker() as worker:
            answer = await worker.ask()
            assert [tried.attempt for tried in worker.bridge.tries] == [1, 2]
    assert acme.runs == 1
    assert [(1, answer.data["run"])] == await rows(database)


async def test_a_statement_that_takes_too_long_is_tried_again_and_then_given_up(
    database: str,
) -> None:
    async def sleep(call: Call[Inbox], inbox: Inbox) -> None:
        await inbox.connection.execute("SELECT pg_sleep(30)")

    acme = Acme(database, sleep, statement_timeout=0.05, retry=RetryPolicy(first=0.0, attempts=3))
    async with acme.worker() as worker:
        with pytest.raises(CallError) as raised:
            await worker.ask()
    assert isinstance(raised.value.__cause__, Retry)
    assert "QueryCanceled" in raised.value.__cause__.reason
    assert acme.runs == 3
    assert await effects(database) == []


async def test_a_lock_that_is_not_given_is_waited_for_so_long_and_no_longer(database: str) -> None:
    async def lock(call: Call[Inbox], inbox: Inbox) -> None:
        await inbox.connection.execute("LOCK TABLE locked")

    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("CREATE TABLE locked ()")
        await other.commit()
        await other.execute("LOCK TABLE locked")
        acme = Acme(database, lock, lock_timeout=0.05)
        async with acme.worker() as worker:
            asked = asyncio.create_task(worker.ask())
            await until(lambda: bool(worker.bridge.worker.counts.retried))
            await other.rollback()
            assert (await asked).status == "Accepted"
    assert await effects(database) == [1]


async def test_a_transaction_that_does_nothing_is_ended_by_the_server(database: str) -> None:
    """That of a worker which is frozen would hold its locks for ever."""

    async def sleep(call: Call[Inbox], inbox: Inbox) -> None:
        if call.attempt == 1:
            await asyncio.sleep(1.0)

    acme = Acme(database, sleep, idle_timeout=0.3)
    async with acme.worker() as worker:
        assert (await worker.ask()).status == "Accepted"
    assert acme.runs == 2
    assert await effects(database) == [1]


async def test_a_handler_that_is_out_of_time_has_no_effect(database: str) -> None:
    async def sleep(call: Call[Inbox], inbox: Inbox) -> None:
        await inbox.connection.execute("SELECT pg_sleep(30)")

    acme = Acme(database, sleep)
    async with acme.worker() as worker:
        began = time.monotonic()
        with pytest.raises(NoAnswer):
            await worker.bridge.data_transfer(
                "CP001", VENDOR, "Start", 1, ocpp_message_id="m", connection_id="c", timeout=0.3
            )
        assert time.monotonic() - began < 3
        assert await effects(database) == []
        acme.then = nothing
        assert (await worker.ask()).status == "Accepted", "its connection can be used again"


# ---- around it ----


async def test_no_table_no_worker(postgres: PostgresServer) -> None:
    bare = postgres.create_schema()
    with pytest.raises(LifespanError, match=r"no table dtbridge_inbox.*create_schema"):
        async with Acme(bare).worker():
            pass


async def test_no_database_no_worker(postgres: PostgresServer) -> None:
    with pytest.raises(LifespanError, match="does not exist"):
        async with Acme(postgres.url("nowhere")).worker():
            pass


async def test_several_may_make_the_table_and_it_may_have_another_name(database: str) -> None:
    schema = f"acme_{secrets.token_hex(4)}"
    table = f"{schema}.inbox"
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute(f"CREATE SCHEMA {schema}".encode())
    await asyncio.gather(*(Inbox.create_schema(database, table=table) for _ in range(5)))
    async with Acme(database, table=table).worker() as worker:
        await worker.ask()
    assert len(await rows(database, table)) == 1
    assert await rows(database, "dtbridge_inbox") == []


async def test_a_pool_of_ones_own_is_used_as_it_is_and_left_open(database: str) -> None:
    kwargs = {"row_factory": dict_row}
    async with AsyncConnectionPool(database, kwargs=kwargs, open=False) as pool:
        first, second = Acme(pool), Acme(pool)
        async with first.worker() as one:
            answer = await one.ask()
        async with second.worker() as two:
            assert await two.ask() == answer
            assert second.inbox.pool is pool
        assert not pool.closed
    assert await effects(database) == [1]


async def test_where_the_database_is_may_be_said_anew_at_each_connection(database: str) -> None:
    asked: list[str] = []

    def where() -> str:
        asked.append(database)
        return database

    async with Acme(where).worker() as worker:
        await worker.ask()
    assert len(asked) >= 2
    assert await effects(database) == [1]


async def test_the_inbox_may_be_a_part_of_the_state(database: str) -> None:
    class State(msgspec.Struct):
        inbox: Inbox

    router = Router(VENDOR)
    router.middleware(exactly_once)

    @router.lifespan
    async def lifespan() -> AsyncIterator[State]:
        async with Inbox(database) as inbox:
            yield State(inbox)

    @router.on("Start")
    async def start(call: Call[State], number: int) -> None:
        async with call.state.inbox.connection.transaction():
            await call.state.inbox.connection.execute(
                "INSERT INTO effects VALUES (%s, '')", (number,)
            )

    async with TestBridge(router) as bridge:
        assert (await bridge.data_transfer("CP001", VENDOR, "Start", 7)).status == "Accepted"
    assert await effects(database) == [7]


async def test_a_state_without_an_inbox_is_told_so() -> None:
    router = Router(VENDOR)
    router.middleware(exactly_once)
    router.on("Start")(nothing_at_all)
    with pytest.raises(CallError) as raised:
        await ask(router, VENDOR, "Start")
    assert "needs a lifespan that gives an Inbox" in str(raised.value.__cause__)


async def nothing_at_all(call: Call) -> None: ...


async def test_around_a_handler_twice_it_is_once(database: str) -> None:
    acme = Acme(database)
    inner = Router(VENDOR)
    inner.middleware(exactly_once)
    inner.on("Inner")(acme._start)
    acme.router.include(inner)
    async with acme.worker() as worker:
        for _ in range(2):
            await worker.bridge.data_transfer(
                "CP001", VENDOR, "Inner", 1, ocpp_message_id="m", connection_id="c"
            )
    assert await effects(database) == [1]


async def test_there_is_no_connection_but_in_a_handler(database: str) -> None:
    later: list[Any] = []

    async def leak(call: Call[Inbox], inbox: Inbox) -> None:
        async def afterwards() -> None:
            await over.wait()
            try:
                later.append(inbox.connection)
            except RuntimeError as error:
                later.append(str(error))

        over = asyncio.Event()
        later.extend([over, asyncio.create_task(afterwards())])
        with pytest.raises(RuntimeError, match="make the handler an async def"):
            await asyncio.to_thread(lambda: inbox.connection)

    acme = Acme(database, leak)
    async with acme.worker() as worker:
        await worker.ask()
        later[0].set()
        await later[1]
        assert "there is no transaction here" in later[2]
        with pytest.raises(RuntimeError, match="there is no transaction here"):
            _ = acme.inbox.connection


# ---- the clean-up ----


async def _age(database: str, days: int, count: int) -> None:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute(
            "INSERT INTO dtbridge_inbox SELECT sha256(n::text::bytea), 'CallError', '',"
            " now() - make_interval(days => %s) FROM generate_series(1, %s) AS n",
            (days, count),
        )


async def test_old_replies_are_removed_in_batches_and_young_ones_stay(database: str) -> None:
    async with Inbox(database) as inbox:
        await _age(database, 8, 25)
        async with Acme(database).worker() as worker:
            await worker.ask()
        both = await asyncio.gather(inbox.clean_up(batch=10), inbox.clean_up(batch=10))
        assert sum(both) == 25
        assert len(await rows(database, "dtbridge_inbox")) == 1
        assert await inbox.clean_up(timedelta(0)) == 1


async def test_a_worker_removes_old_replies_by_itself(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "CLEAN_UP_EVERY", 0.01)
    await _age(database, 8, 5)
    async with Inbox(database, keep=timedelta(days=9)):
        await asyncio.sleep(0.1)
        assert len(await rows(database, "dtbridge_inbox")) == 5
    async with Inbox(database):
        async with asyncio.timeout(PATIENCE):
            while await rows(database, "dtbridge_inbox"):
                await asyncio.sleep(0.01)


async def test_an_index_finds_what_is_old(database: str) -> None:
    await _age(database, 8, 2_000)
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute("ANALYZE dtbridge_inbox")
        cursor = await connection.execute(
            b"EXPLAIN " + statements().clean_up, {"age": timedelta(days=9), "batch": 1000}
        )
        plan = str(await cursor.fetchall())
    assert "dtbridge_inbox_handled_at" in plan
