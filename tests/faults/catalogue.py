"""What a fault is: how it is played and what is measured. `CATALOGUE` is the list of all faults."""

import enum
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from bridge.dialects.partitions import Partitions
from tests.faults.load import WINDOW, Maker, Mix
from tests.faults.stage import Stage

USUAL = Mix({"Echo": 86, "Slow": 8, "Flaky": 4, "Big": 2})


class Needs(enum.Enum):
    """What a fault needs, to break it."""

    URL = "any broker"
    NODE = "a node of our own"
    MANAGED = "a node of our own with the management API"
    CLUSTER = "three nodes of our own"


Strike = Callable[[Stage], AsyncIterator[None]]


class Fault(msgspec.Struct, kw_only=True):
    """One row of the table."""

    name: str
    group: str
    strike: Callable[[Stage], AbstractAsyncContextManager[None]]
    """A context manager that breaks something when entered and mends it when left."""
    needs: Needs
    hold: float
    """Seconds between the two."""
    within: float
    """Seconds a recovery may take."""
    make: Maker
    rate: float
    """Requests per second."""
    workers: int
    heartbeat: int
    """Seconds."""
    options: tuple[str, ...]
    """Of `dtbridge run`."""
    user: str | None
    """The workers' own user, as NAME:PASSWORD; None: guest."""
    reply_arguments: dict[str, Any]
    """Further arguments of the reply queues."""
    window: int
    """Prefetch of each reply queue."""
    spread: Partitions | None
    """The vendor's partitions, if it has any or is in order (`tests/faults/spread.py`)."""
    redis: bool
    """Whether replies are stored in Redis."""
    effects: bool
    """Whether requests have effects in a PostgreSQL (`tests/faults/effects.py`)."""
    may_rerun: bool
    """Whether a handler may run twice for a request: the second delivery may go to a worker that
    does not know of the first."""
    may_expire: bool
    """Whether requests may reach their deadline."""
    may_move: bool
    """Whether requests may be moved to other queues: what is delivered from there is not marked as
    redelivered."""
    may_wear_out: bool
    """Whether workers die so often that the broker gives up what each of them had in hand, though
    its answer may have gone out."""
    warm_up: float
    """Seconds of load before the fault."""
    cool_down: float
    """Seconds of load after the recovery."""
    patience: float
    """Seconds the last request may take to end."""


CATALOGUE: list[Fault] = []


def fault(
    name: str,
    *,
    needs: Needs = Needs.URL,
    hold: float = 1.0,
    within: float = 5.0,
    make: Maker = USUAL,
    rate: float = 300.0,
    workers: int = 2,
    heartbeat: int = 10,
    options: tuple[str, ...] = (),
    user: str | None = None,
    reply_arguments: dict[str, Any] | None = None,
    window: int = WINDOW,
    spread: Partitions | None = None,
    redis: bool = False,
    effects: bool = False,
    may_rerun: bool | None = None,
    may_expire: bool = False,
    may_move: bool = False,
    may_wear_out: bool = False,
    warm_up: float = 1.0,
    cool_down: float = 1.0,
    patience: float = 30.0,
) -> Callable[[Strike], Strike]:
    """Enter an asynchronous generator into the catalogue: it breaks, yields, and mends.

    The recovery counts from its end, unless it starts the stage's clock itself (`Stage.now`).
    """

    def enter(strike: Strike) -> Strike:
        CATALOGUE.append(
            Fault(
                name=name,
                group=strike.__module__.rpartition(".")[2],
                strike=asynccontextmanager(strike),
                needs=needs,
                hold=hold,
                within=within,
                make=make,
                rate=rate,
                workers=workers,
                heartbeat=heartbeat,
                options=options,
                user=user,
                reply_arguments=reply_arguments or {},
                window=window,
                spread=spread,
                redis=redis,
                effects=effects,
                may_rerun=(
                    workers > 1 and not redis and not effects if may_rerun is None else may_rerun
                ),
                may_expire=may_expire,
                may_move=may_move,
                may_wear_out=may_wear_out,
                warm_up=warm_up,
                cool_down=cool_down,
                patience=patience,
            )
        )
        return strike

    return enter
