"""Passwords and tokens that are renewed while a program runs.

Somebody else writes the new one to its file. So each attempt to connect begins with a look at the
files, and a :class:`Renewal` looks at them every few seconds besides. A living connection is told
by Connection.UpdateSecret, and lives on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from yarl import URL

from bridge.rabbitmq.connection import Connection
from bridge.rabbitmq.hosts import Hosts
from bridge.rabbitmq.losses import LOST, explain
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.rabbitmq")

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the files. Tokens live for minutes at least."""


class Renewal:
    """Looks at the files behind a broker's URLs, for as long as a program runs."""

    def __init__(self, hosts: Hosts, on_change: Callable[[], None]) -> None:
        """`on_change`: called when a URL has become another one."""
        self._hosts = hosts
        self._on_change = on_change
        self._told = ""
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Read the files again. Never raises: what was read before stays, and the log says why."""
        try:
            changed = await asyncio.to_thread(self._hosts.read_again)
        except ValueError as error:
            self._tell(str(error))
            return
        except Exception:  # whoever reconnects must go on
            log.exception("broker URL not read")
            return
        self._told = ""
        if changed:
            log.info("broker URL read again", hosts=len(self._hosts))
            self._on_change()

    def start(self, after: Callable[[], Awaitable[None]]) -> None:
        """Look every few seconds, and await `after` each time. Call it on the event loop."""
        self._task = asyncio.create_task(self._keep_looking(after), name="dtbridge-renewal")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _keep_looking(self, after: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.look()
            try:
                await after()
            except Exception:
                log.exception("login not renewed")

    def _tell(self, reason: str) -> None:
        """Once, not at each look."""
        if reason != self._told:
            log.warning("broker URL not read", reason=reason, hint="the one before stays in force")
        self._told = reason


def _renewed(url: URL, urls: Sequence[URL]) -> URL | None:
    """The one that differs from `url` in its password alone; None: there is none."""
    alike = [each for each in urls if each.with_password(None) == url.with_password(None)]
    return None if url in alike else next(iter(alike), None)


async def renew(connections: Sequence[Connection], url: URL, urls: Sequence[URL]) -> URL:
    """Have connections to `url` go on with the password that `urls` have for it now.

    Returns the URL that is theirs then. Never raises: a connection that the broker ends is opened
    again by whoever owns it.
    """
    new = _renewed(url, urls)
    if new is None or new.password is None:
        return url
    for connection in connections:
        try:
            await connection.update_secret(new.password)
        except LOST as error:
            log.warning("login not renewed", connection=connection.name, reason=explain(error))
        else:
            log.info("login renewed", connection=connection.name)
    return new
