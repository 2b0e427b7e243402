"""The order in which passwords are checked, so that who guesses slows down nobody else.

A check costs 10 ms of a core. So few run at a time; what a station was let in with is remembered,
and costs nothing when it comes back; and who fails is given fewer checks, and later ones.
"""

import asyncio
import bisect
import concurrent.futures
import hashlib
import hmac
import itertools
import math
import secrets
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

from bridge.gateway.websocket.passwords import Passwords

PASSWORD_THREADS: Final = 2
"""Passwords that are checked at a time. Each check occupies a core and takes some memory."""

WAITING_MAX: Final = 500
"""Checks that may wait: some 3 s of work. The one with the most failures behind it is refused."""

GUESSES: Final = 5
"""Wrong passwords of one station from one address, before it must wait."""

GUESS_SECONDS: Final = 10.0
"""Seconds until such a station may try once more."""

STATION_GUESSES: Final = 20
"""Wrong passwords of one station from anywhere, before all but the remembered one must wait."""

STATION_GUESS_SECONDS: Final = 1.0
"""Seconds until such a station may try once more: a million years for a password of OCPP's."""

ADDRESS_SECONDS: Final = 1.0
"""Seconds in which one failure of an address is forgotten. Failures of an address only decide who
is checked first: all stations behind a proxy share one."""

KEPT_MAX: Final = 20_000
"""Stations or addresses whose failures are kept, and stations that are remembered."""


class TooManyGuesses(Exception):
    """The station must wait before its password is checked again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"for {seconds:.1f} s")
        self.seconds = math.ceil(seconds)


class TooBusy(Exception):
    """More passwords wait than can be checked soon."""


class Attempts:
    """Counts attempts by key, and forgets one after the other."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]) -> None:
        """`seconds`: after which one attempt is forgotten."""
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, float]] = {}

    def number(self, key: Hashable) -> float:
        number, then = self._kept.get(key, (0.0, 0.0))
        return max(0.0, number - (self._clock() - then) / self._seconds)

    def wait(self, key: Hashable) -> float:
        """Seconds until there may be one more."""
        return max(0.0, self.number(key) + 1 - self._most) * self._seconds

    def add(self, key: Hashable) -> None:
        self._keep(key, self.number(key) + 1)

    def take_back(self, key: Hashable) -> None:
        self._keep(key, self.number(key) - 1)

    def _keep(self, key: Hashable, number: float) -> None:
        self._kept.pop(key, None)
        if number > 0:
            self._kept[key] = number, self._clock()
            if len(self._kept) > KEPT_MAX:
                del self._kept[next(iter(self._kept))]


class Logins:
    """Checks passwords, a few at a time, those of honest stations first."""

    def __init__(self, passwords: Passwords, clock: Callable[[], float] = time.monotonic) -> None:
        self._passwords = passwords
        self._checkers = concurrent.futures.ThreadPoolExecutor(PASSWORD_THREADS, "password")
        self._reader = concurrent.futures.ThreadPoolExecutor(1, "password-file")
        self._running = 0
        self._waiting: list[tuple[tuple[float, float, int], asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._guesses = Attempts(GUESSES, GUESS_SECONDS, clock)
        self._station_guesses = Attempts(STATION_GUESSES, STATION_GUESS_SECONDS, clock)
        self._address_guesses = Attempts(0, ADDRESS_SECONDS, clock)
        self._secret = secrets.token_bytes(32)
        self._remembered: dict[str, tuple[bytes, object]] = {}

    def close(self) -> None:
        for executor in (self._checkers, self._reader):
            executor.shutdown(wait=False, cancel_futures=True)

    async def refresh(self) -> int:
        """Read the passwords again if they have changed; the number of times they have."""
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, self._passwords.refresh
        )

    def holds(self, station_id: str, entry: object) -> bool:
        """Whether what the station was let in by still lets it in."""
        return self._passwords.holds(station_id, entry)

    async def check(
        self, station_id: str, address: str, password: bytes, user: str | None = None
    ) -> object | None:
        """What lets the station in, or None. Raises TooManyGuesses or TooBusy without a check.

        `user`: its user name, if that is not its id.
        """
        digest = self._digest(station_id, password, user)
        known = self._remembered.get(station_id)
        if known is not None and hmac.compare_digest(known[0], digest):
            await self.refresh()
            if self.holds(station_id, known[1]):
                return known[1]
            self._remembered.pop(station_id, None)
        pair = station_id, address
        seconds = max(self._guesses.wait(pair), self._station_guesses.wait(station_id))
        if seconds > 0:
            raise TooManyGuesses(seconds)
        # Whoever asks a hundred times at once must not be checked a hundred times.
        rank = self._station_guesses.number(station_id), self._address_guesses.number(address)
        kept: tuple[tuple[Attempts, Any], ...] = (
            (self._guesses, pair),
            (self._station_guesses, station_id),
            (self._address_guesses, address),
        )
        for attempts, key in kept:
            attempts.add(key)
        try:
            await self._turn(rank)
        except TooBusy:
            for attempts, key in kept:
                attempts.take_back(key)
            raise
        try:
            entry = await asyncio.get_running_loop().run_in_executor(
                self._checkers, self._passwords.check, station_id, password, user
            )
        finally:
            self._next()
        if entry is not None:
            for attempts, key in kept:
                attempts.take_back(key)
            self._remember(station_id, digest, entry)
        return entry

    async def _turn(self, rank: tuple[float, float]) -> None:
        if self._running < PASSWORD_THREADS:
            self._running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        bisect.insort(self._waiting, ((*rank, next(self._numbers)), turn))
        if len(self._waiting) > WAITING_MAX:
            self._waiting = [item for item in self._waiting if not item[1].done()]
        if len(self._waiting) > WAITING_MAX:
            self._waiting.pop()[1].set_exception(TooBusy())
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._next()
            raise

    def _next(self) -> None:
        """Give the place of a check to the one that waits with the fewest failures."""
        while self._waiting:
            turn = self._waiting.pop(0)[1]
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1

    def _digest(self, station_id: str, password: bytes, user: str | None) -> bytes:
        name = repr((station_id, user)).encode()
        text = len(name).to_bytes(4) + name + password
        return hashlib.blake2b(text, key=self._secret, digest_size=32).digest()

    def _remember(self, station_id: str, digest: bytes, entry: object) -> None:
        self._remembered.pop(station_id, None)
        self._remembered[station_id] = digest, entry
        if len(self._remembered) > KEPT_MAX:
            del self._remembered[next(iter(self._remembered))]
