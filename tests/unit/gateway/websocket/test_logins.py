"""Whose password is checked, and when."""

import asyncio
import threading

import pytest

from bridge.gateway.websocket import logins as module
from bridge.gateway.websocket.logins import Attempts, Logins, TooBusy, TooManyGuesses

PATIENCE = 60.0


class Slow:
    """Passwords whose checks wait until they may go on, and are written down."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.checked: list[str] = []
        self.right: dict[str, bytes] = {}
        self.changes = 0

    def check(self, station_id: str, password: bytes, user: str | None = None) -> object | None:
        self.goes_on.wait(PATIENCE)
        self.checked.append(station_id)
        return password if self.right.get(station_id) == password else None

    def holds(self, station_id: str, entry: object) -> bool:
        return self.right.get(station_id) == entry

    def refresh(self) -> int:
        return self.changes


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def waiting(logins: Logins, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(logins._waiting) < number:
            await asyncio.sleep(0)


def test_attempts_are_forgotten_one_after_the_other() -> None:
    clock = Clock()
    attempts = Attempts(2, 10.0, clock)
    attempts.add("a")
    assert attempts.wait("a") == 0
    attempts.add("a")
    assert attempts.wait("a") == 10
    assert attempts.wait("b") == 0
    clock.now += 10
    assert attempts.wait("a") == 0
    attempts.take_back("a")
    assert attempts.number("a") == 0


def test_attempts_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 3)
    attempts = Attempts(2, 10.0, Clock())
    for key in "abcdef":
        attempts.add(key)
    assert len(attempts._kept) == 3


async def test_the_station_with_the_fewest_failures_is_checked_first() -> None:
    passwords = Slow()
    logins = Logins(passwords)
    try:
        tasks = [asyncio.create_task(logins.check(f"R{n}", "a", b"")) for n in range(2)]
        await asyncio.sleep(0)
        guesses = (logins.check(f"X{n}", "evil", b"") for n in range(20))  # at random names
        tasks += map(asyncio.create_task, guesses)
        await waiting(logins, 20)
        passwords.right["honest"] = b"right"
        honest = asyncio.create_task(logins.check("honest", "b", b"right"))
        await waiting(logins, 21)
        passwords.goes_on.set()
        assert await honest == b"right"
        await asyncio.gather(*tasks)
        place = passwords.checked.index("honest")
        assert place <= 4  # two were running, and one guess was the address's first
    finally:
        passwords.goes_on.set()
        logins.close()


async def test_checks_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    passwords = Slow()
    logins = Logins(passwords)
    try:
        tasks = [asyncio.create_task(logins.check(f"X{n}", "evil", b"")) for n in range(8)]
        async with asyncio.timeout(PATIENCE):
            while sum(task.done() for task in tasks) < 3:
                await asyncio.sleep(0)
        passwords.goes_on.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, TooBusy) for result in done) == 3
        assert done.count(None) == 5
    finally:
        passwords.goes_on.set()
        logins.close()


async def test_who_gives_up_waiting_leaves_its_place_to_the_next() -> None:
    passwords = Slow()
    logins = Logins(passwords)
    try:
        tasks = [asyncio.create_task(logins.check(f"X{n}", "a", b"")) for n in range(6)]
        await waiting(logins, 4)
        for task in tasks[2:5]:
            task.cancel()
        passwords.goes_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await logins.check("Y", "a", b"") is None
        assert logins._running == 0
    finally:
        passwords.goes_on.set()
        logins.close()


async def test_a_remembered_password_needs_no_check_until_it_no_longer_holds() -> None:
    passwords = Slow()
    passwords.goes_on.set()
    passwords.right["CP001"] = b"right"
    logins = Logins(passwords, Clock())
    try:
        assert await logins.check("CP001", "a", b"right") == b"right"
        for _ in range(module.GUESSES):
            assert await logins.check("CP001", "b", b"wrong") is None
        for _ in range(50):
            with pytest.raises(TooManyGuesses):
                await logins.check("CP001", "b", b"wrong")
            assert await logins.check("CP001", "a", b"right") == b"right"
        assert len(passwords.checked) == 1 + module.GUESSES
        assert b"right" not in logins._remembered["CP001"][0]
        passwords.right["CP001"] = b"new"
        assert await logins.check("CP001", "a", b"right") is None
    finally:
        logins.close()


async def test_a_password_is_remembered_for_the_user_that_gave_it() -> None:
    passwords = Slow()
    passwords.goes_on.set()
    passwords.right["CP001"] = b"right"
    logins = Logins(passwords, Clock())
    try:
        for number, user in enumerate([None, "admin", "", "None"], 1):
            for _ in range(2):
                assert await logins.check("CP001", "a", b"right", user) == b"right"
            assert len(passwords.checked) == number
    finally:
        logins.close()


async def test_guesses_at_one_station_from_many_addresses_are_bounded_too() -> None:
    passwords = Slow()
    passwords.goes_on.set()
    logins = Logins(passwords, Clock())
    try:
        guesses = (logins.check("CP001", f"10.0.0.{number}", b"wrong") for number in range(100))
        results = await asyncio.gather(*guesses, return_exceptions=True)
        refused = [result for result in results if isinstance(result, TooManyGuesses)]
        assert len(refused) == 100 - module.STATION_GUESSES
        assert all(result.seconds >= 1 for result in refused)
    finally:
        logins.close()
