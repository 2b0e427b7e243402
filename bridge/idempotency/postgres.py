"""Exactly-once effects: a reply is kept by the transaction that has the effect. Extra ``postgres``.

A handler below :func:`exactly_once` runs in a transaction of an :class:`Inbox`, and writes what it
writes by the connection of that. Its reply goes into a table of the same database, in the same
transaction: so either both are there, or neither is. Whatever comes in between, the request comes
again, and then

* nothing was committed: the handler runs, as if it never had;
* it was committed: the reply is sent that was kept, byte for byte, and the handler does not run.

Two workers may have the same request at a time, when a connection was lost. The one that comes
second finds it taken (an advisory lock of the transaction) and has it come back a moment later. The
lock only saves work: what decides is the primary key of the table. Of two transactions that write
the same request, one commits, and the other is rolled back with all that it did.

A database that is away, a lock that is not given, a commit without an answer: each means another
try, by the policy of the handler. The next try finds out what has become of the one before.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from bridge.idempotency.inbox_table import TABLE, statements
from bridge.idempotency.store import TTL
from bridge.ocpp import (
    CallError,
    DataTransferResponse,
    OcppVersion,
    encode_accepted,
    encode_response,
    rejected,
)
from bridge.request.incoming import Call
from bridge.request.outcome import Kind, Outcome, Rejected, Reply, Retry, RetryLater, call_error
from bridge.routing.middleware import CallNext
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.idempotency")

CONNECTIONS: Final = 10
"""Connections of a worker at most: a transaction needs one, and PostgreSQL has 100 as it comes."""
TIMEOUT: Final = 5.0
"""Seconds to connect, and to wait for a connection that is free: after that, another try. In this
time a database that is restarted is back."""
STATEMENT_TIMEOUT: Final = 10.0
"""Seconds that a statement may take. A handler has 20 by default."""
LOCK_TIMEOUT: Final = 5.0
"""Seconds that a statement waits for a lock."""
IDLE_TIMEOUT: Final = 60.0
"""Seconds that a transaction may do nothing: that of a worker which is frozen, or whose machine is
gone, holds its locks that long. A handler that waits for something else is to be done by then."""
BUSY_RETRY: Final = 0.5
"""Seconds until a request comes back that another transaction has taken: most are over by then."""
MAX_REPLY: Final = 4 * 1024 * 1024
"""Bytes of a reply at most: what a worker sends by default."""
KEEP: Final = timedelta(days=7)
"""How long replies are kept: longer than a request can lie in its queue while all workers are
away, say over a long weekend."""
CLEAN_UP_EVERY: Final = 600.0
"""Seconds from one removal of old replies to the next."""
BATCH: Final = 1_000
"""Rows that are removed in one transaction."""

_DEFAULTS: Final = {
    "connect_timeout": str(round(TIMEOUT)),
    "fallback_application_name": "dtbridge",
    # A machine that is gone is known as that: the defaults of Linux take two hours.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""Of a connection, unless its URL says otherwise."""

_AGAIN: Final = (
    psycopg.OperationalError,  # away, locked, out of time, deadlock, not serializable, no free one
    psycopg.InterfaceError,  # its connection is closed
    psycopg.errors.IdleInTransactionSessionTimeout,
)
"""What says that the transaction has failed, and not that it is wrong."""

Connection = psycopg.AsyncConnection[Any]

_RECENTLY: Final = timedelta(seconds=TTL)
"""How long a reply counts where names come again: as long as one in a store. After that it is of an
earlier request, though the broker says that it has delivered this one before."""
_BUSY: Final = RetryLater(BUSY_RETRY, "another worker is handling it", counts=False)


class _BeatenError(Exception):
    """Another transaction has written the reply of the request."""


class _Open:
    """A transaction that a handler runs in."""

    __slots__ = ("connection", "inbox")

    def __init__(self, inbox: "Inbox", connection: Connection) -> None:
        self.inbox = inbox
        self.connection: Connection | None = connection


_OPEN: ContextVar[_Open | None] = ContextVar("dtbridge_inbox", default=None)


class Inbox:
    """A database in which the effects of requests happen exactly once.

    >>> @router.lifespan
    ... async def lifespan() -> AsyncIterator[Inbox]:
    ...     async with Inbox("postgresql:///acme") as inbox:
    ...         yield inbox
    >>> router.middleware(exactly_once)
    """

    def __init__(
        self,
        database: str | Callable[[], str] | AsyncConnectionPool[Any],
        *,
        table: str = TABLE,
        connections: int = CONNECTIONS,
        timeout: float = TIMEOUT,
        statement_timeout: float = STATEMENT_TIMEOUT,
        lock_timeout: float = LOCK_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
        keep: timedelta | None = KEEP,
    ) -> None:
        """`database`: a URL or any other connection string of PostgreSQL.

        Or a function that returns one, and is called at each connection, for passwords that are
        renewed; or a pool of yours, which is open already and stays so. `table`: ``NAME`` or
        ``SCHEMA.NAME``. `connections`: at most. `timeout`: seconds to wait for one; both are of a
        pool of yours otherwise. `statement_timeout`, `lock_timeout` and `idle_timeout`: seconds,
        for the transactions of handlers; 0: no bound. `keep`: how long replies are kept; None: this
        one removes none.
        """
        self._statements = statements(table)
        self._table = table
        self._timeout = timeout
        self._bounds = {
            "statement_timeout": f"{round(statement_timeout * 1000)}ms",
            "lock_timeout": f"{round(lock_timeout * 1000)}ms",
            "idle_timeout": f"{round(idle_timeout * 1000)}ms",
        }
        self._keep = keep
        self._cleaning: asyncio.Task[None] | None = None
        self._is_ours = not isinstance(database, AsyncConnectionPool)
        self._pool: AsyncConnectionPool[Any]
        if isinstance(database, AsyncConnectionPool):
            self._pool = database
            return
        read = database if callable(database) else lambda: database
        self._pool = AsyncConnectionPool(
            conninfo=lambda: _with_defaults(read()),
            min_size=1,
            max_size=connections,
            kwargs={"autocommit": True},
            open=False,
            name="dtbridge-inbox",
            timeout=timeout,
            reconnect_timeout=timeout,  # then the next request tries, and not a timer of minutes
        )
        self._read = read

    async def __aenter__(self) -> Self:
        if self._is_ours:
            await self._look()
            await self._pool.open()
        else:
            async with self._pool.connection() as connection:
                await self._probe(connection)
        if self._keep is not None:
            self._cleaning = asyncio.create_task(self._keep_clean(self._keep))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.wait((self._cleaning,))
        if self._is_ours:
            await self._pool.close(timeout=self._timeout)

    async def _look(self) -> None:
        """Connect once: the pool would say no more than that it has no connection."""
        connecting = psycopg.AsyncConnection.connect(_with_defaults(self._read()), autocommit=True)
        async with await connecting as connection:
            await self._probe(connection)

    async def _probe(self, connection: Connection) -> None:
        try:
            await connection.execute(self._statements.probe)
        except psycopg.errors.UndefinedTable:
            raise LookupError(
                f"the database has no table {self._table}: create it with Inbox.create_schema"
            ) from None

    @staticmethod
    def schema(table: str = TABLE) -> str:
        """What makes its table and index, as SQL: for a tool that keeps migrations."""
        return statements(table).schema

    @staticmethod
    async def create_schema(database: str, *, table: str = TABLE) -> None:
        """Make its table and index, unless they are there. Several may do so at a time."""
        connecting = psycopg.AsyncConnection.connect(_with_defaults(database))
        async with await connecting as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (table,))
            await connection.execute(statements(table).schema.encode())

    @property
    def pool(self) -> AsyncConnectionPool[Any]:
        """For what is no part of a request's transaction, or has to be seen without it."""
        return self._pool

    @property
    def connection(self) -> Connection:
        """That of the transaction which the handler runs in.

        Neither commit it nor roll it back; ``connection.transaction()`` makes a savepoint. Raises
        RuntimeError where no handler below :func:`exactly_once` runs, and in threads.
        """
        found = _OPEN.get()
        if found is None or found.inbox is not self or found.connection is None:
            raise RuntimeError(
                "there is no transaction here: an inbox has a connection while a handler below the"
                " middleware exactly_once runs"
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "the connection of an inbox belongs to the event loop: make the handler an async"
                " def"
            ) from None
        return found.connection

    async def handle(self, call: Call[Any], data: Any, call_next: CallNext) -> Any:
        """What :func:`exactly_once` does for a call. Returns a reply, or when to come again."""
        opened = _OPEN.get()
        if opened is not None and opened.inbox is self and opened.connection is not None:
            return await call_next(call, data)  # it stands around the handler twice
        key = call.idempotency_key
        request = None if key is None else bytes.fromhex(key)
        if request is not None and call.key_comes_again:
            await self._forget(request, _RECENTLY if call.may_be_repetition else timedelta(0))
        try:
            return await self._once(request, call, partial(call_next, call, data))
        except (Rejected, CallError) as error:
            # All that the handler did is undone; what is answered is kept all the same.
            reply = _refusal(error, call.ocpp_version)
            if request is None:
                return reply
            return await self._once(request, call, partial(_given, reply))

    async def _forget(self, request: bytes, age: timedelta) -> None:
        """Forget an earlier request of this name, if it was handled so long ago.

        Not within the transaction of the handler: if that fails, the next try must not find it.
        """
        with _again():
            async with self._pool.connection() as connection:
                await connection.execute(self._statements.forget, {"request": request, "age": age})

    async def _once(
        self, request: bytes | None, call: Call[Any], answer: Callable[[], Awaitable[Any]]
    ) -> Outcome:
        try:
            with _again():
                async with self._pool.connection() as connection, connection.transaction():
                    found = await self._begin(connection, request)
                    if found is not None:
                        return found
                    with self._open(connection):
                        result = await answer()
                    reply = _encoded(result, call.ocpp_version)
                    if request is not None:
                        await self._write(connection, request, reply)
        except _BeatenError:
            return _BUSY
        return reply

    async def _begin(self, connection: Connection, request: bytes | None) -> Outcome | None:
        """The reply that is kept, or when to come again; None: the handler is to run."""
        lock = None if request is None else int.from_bytes(request[:8], signed=True)
        arguments = {**self._bounds, "request": request, "lock": lock}
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(self._statements.begin, arguments)
            row = await cursor.fetchone()
        if row is None or request is None:
            return None
        *_, is_taken, kind, reply = row
        if kind is not None:
            return Reply(bytes(reply), Kind(kind))
        return None if is_taken else _BUSY

    async def _write(self, connection: Connection, request: bytes, reply: Reply) -> None:
        arguments = {"request": request, "kind": reply.kind.value, "reply": reply.body}
        cursor = await connection.execute(self._statements.keep, arguments)
        if not cursor.rowcount:
            raise _BeatenError

    @contextlib.contextmanager
    def _open(self, connection: Connection) -> Iterator[None]:
        opened = _Open(self, connection)
        token = _OPEN.set(opened)
        try:
            yield
        finally:
            opened.connection = None
            _OPEN.reset(token)

    async def clean_up(self, older_than: timedelta = KEEP, *, batch: int = BATCH) -> int:
        """Remove the replies that are older, in transactions of `batch` rows. Returns how many.

        Several may do so at a time. A request whose reply is gone would be handled again.
        """
        removed = 0
        while True:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    self._statements.clean_up, {"age": older_than, "batch": batch}
                )
            gone = int(cursor.rowcount)
            removed += gone
            if gone < batch:
                return removed

    async def _keep_clean(self, keep: timedelta) -> None:
        """Remove old replies again and again; workers that were started together do so in turns."""
        while True:
            await asyncio.sleep(CLEAN_UP_EVERY * random.uniform(0.5, 1.5))
            try:
                removed = await self.clean_up(keep)
            except psycopg.Error as error:
                log.warning("inbox not cleaned up", error=f"{type(error).__name__}: {error}")
            else:
                log.debug("inbox cleaned up", removed=removed)


async def exactly_once(call: Call[Any], data: Any, call_next: CallNext) -> Any:
    """A middleware: what the handlers below it write by the connection happens exactly once.

    The router's lifespan gives an :class:`Inbox`, or an object whose attribute ``inbox`` is one. A
    request without an OCPP message id has a transaction, and nothing that it could be known by.
    """
    inbox = call.state if isinstance(call.state, Inbox) else getattr(call.state, "inbox", None)
    if not isinstance(inbox, Inbox):
        raise TypeError(
            "exactly_once needs a lifespan that gives an Inbox, or an object whose attribute inbox"
            f" is one, not {type(call.state).__qualname__}"
        )
    return await inbox.handle(call, data, call_next)


@contextlib.contextmanager
def _again() -> Iterator[None]:
    """Have the request tried again if the database says that it could not."""
    try:
        yield
    except _AGAIN as error:
        raise Retry(reason=f"{type(error).__name__}: {error}") from error


def _with_defaults(database: str) -> str:
    """Raises psycopg.ProgrammingError for what is no connection string."""
    given: dict[str, Any] = {**_DEFAULTS, **conninfo_to_dict(database)}
    return make_conninfo(**given)


def _encoded(result: Any, version: OcppVersion) -> Reply:
    """The reply that a handler's answer makes. Raises what a type of its own raises."""
    if isinstance(result, Reply):
        return result
    if isinstance(result, DataTransferResponse):
        body = encode_response(result, version)
    else:
        body = encode_accepted(result, version)
    if len(body) > MAX_REPLY:
        raise ValueError(f"the answer has {len(body)} bytes, and at most {MAX_REPLY} are kept")
    return Reply(body)


def _refusal(error: Rejected | CallError, version: OcppVersion) -> Reply:
    if isinstance(error, CallError):
        return call_error(error, version)
    return Reply(rejected(error.reason_code, error.additional_info, version))


async def _given(reply: Reply) -> Reply:
    return reply
