"""The table that an :class:`~bridge.idempotency.postgres.Inbox` keeps replies in: PostgreSQL's SQL.

Pure text. A name of a table is quoted here, and nowhere else.
"""

from typing import Final

import msgspec

TABLE: Final = "dtbridge_inbox"
"""Its name, unless another one is asked for."""

_SCHEMA: Final = """\
-- The replies of requests that were handled, each written by the transaction of its handler.
CREATE TABLE IF NOT EXISTS {table} (
    request    bytea       PRIMARY KEY,             -- what names the request (SHA-256)
    kind       text        NOT NULL,                -- DataTransferResponse or CallError
    reply      bytea       NOT NULL,                -- as it was sent: JSON
    handled_at timestamptz NOT NULL DEFAULT now()
);
-- For what removes old rows.
CREATE INDEX IF NOT EXISTS {index} ON {table} (handled_at);
"""

_PROBE: Final = "SELECT request, kind, reply, handled_at FROM {table} LIMIT 0"

_BEGIN: Final = """\
SELECT set_config('lock_timeout', %(lock_timeout)s, true),
       set_config('statement_timeout', %(statement_timeout)s, true),
       set_config('idle_in_transaction_session_timeout', %(idle_timeout)s, true),
       pg_try_advisory_xact_lock(%(lock)s),
       kept.kind,
       kept.reply
FROM (SELECT) AS one
LEFT JOIN {table} AS kept ON kept.request = %(request)s"""

_KEEP: Final = """\
INSERT INTO {table} (request, kind, reply) VALUES (%(request)s, %(kind)s, %(reply)s)
ON CONFLICT (request) DO NOTHING"""

_FORGET: Final = """\
DELETE FROM {table} WHERE request = %(request)s AND handled_at <= now() - %(age)s"""

_CLEAN_UP: Final = """\
DELETE FROM {table} WHERE request IN (
    SELECT request FROM {table} WHERE handled_at < now() - %(age)s
    ORDER BY handled_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)"""


class Statements(msgspec.Struct, frozen=True):
    """The statements for one table."""

    schema: str
    """Makes table and index, unless they are there. The other ones are bytes, for psycopg."""
    begin: bytes
    """The first of a transaction: bounds its time, tries to take the request, looks it up."""
    keep: bytes
    """The last: writes the reply, unless another transaction has written one."""
    forget: bytes
    """Removes the reply of an earlier request which had the same name."""
    clean_up: bytes
    """Removes a batch of old rows."""
    probe: bytes
    """Fails if the table is not there, or is not as it must be."""


def statements(table: str = TABLE) -> Statements:
    """Those for a table: ``NAME``, or ``SCHEMA.NAME``.

    Raises ValueError for what is no name: a part is letters, digits and underscores.
    """
    parts = table.split(".")
    if len(parts) > 2 or not all(part.isidentifier() and part.isascii() for part in parts):
        raise ValueError(f"the table of an inbox is NAME or SCHEMA.NAME, not {table!r}")
    quoted = ".".join(f'"{part}"' for part in parts)
    names = {"table": quoted, "index": f'"{parts[-1]}_handled_at"'}
    return Statements(
        schema=_SCHEMA.format(**names),
        begin=_BEGIN.format(**names).encode(),
        keep=_KEEP.format(**names).encode(),
        forget=_FORGET.format(**names).encode(),
        clean_up=_CLEAN_UP.format(**names).encode(),
        probe=_PROBE.format(**names).encode(),
    )
