"""Effects that happen exactly once, in PostgreSQL. `dtbridge run examples.sessions:router`.

ACME_DATABASE names the database, as in postgresql:///acme. Its tables are made by
`python -m examples.sessions`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from bridge import Call, Rejected, Router
from bridge.idempotency import Inbox, exactly_once

DATABASE: Final = "ACME_DATABASE"

TABLES: Final = """
CREATE TABLE IF NOT EXISTS wallets (
    token   text PRIMARY KEY,
    credit  numeric NOT NULL CHECK (credit >= 0)
);
CREATE TABLE IF NOT EXISTS sessions (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station text NOT NULL,
    token   text NOT NULL REFERENCES wallets,
    energy  numeric NOT NULL,
    price   numeric NOT NULL
);
"""

router = Router("com.acme", concurrency=10)


@router.lifespan
async def lifespan() -> AsyncIterator[Inbox]:
    async with Inbox(os.environ[DATABASE]) as inbox:
        yield inbox


router.middleware(exactly_once)


class Session(msgspec.Struct, rename="camel"):
    token: str
    energy: float
    """In kWh."""
    price: float


class Receipt(msgspec.Struct, rename="camel"):
    credit: float
    """What is left in the wallet."""


@router.on("Pay")
async def pay(call: Call[Inbox], data: Session) -> Receipt:
    """Take the price of a session from a wallet, and book it.

    Whatever dies meanwhile: the wallet is charged once, and the station has the receipt of that.
    """
    database = call.state.connection
    paid = await database.execute(
        "UPDATE wallets SET credit = credit - %s WHERE token = %s AND credit >= %s"
        " RETURNING credit",
        (data.price, data.token, data.price),
    )
    wallet = await paid.fetchone()
    if wallet is None:
        raise Rejected("NoCredit", f"{data.token} cannot pay {data.price}")
    await database.execute(
        "INSERT INTO sessions (station, token, energy, price) VALUES (%s, %s, %s, %s)",
        (call.station_id, data.token, data.energy, data.price),
    )
    return Receipt(float(wallet[0]))


async def make_tables(database: str) -> None:
    """Make the tables of the inbox and of the example, unless they are there."""
    await Inbox.create_schema(database)
    async with Inbox(database) as inbox, inbox.pool.connection() as connection:
        await connection.execute(TABLES)


if __name__ == "__main__":
    asyncio.run(make_tables(os.environ[DATABASE]))
