"""Replies kept in memory: which request is whose, for how long, and how many."""

import pytest

from bridge.idempotency.memory import BYTES, ENTRIES, LARGE, MemoryStore
from bridge.idempotency.store import TTL, Key, Running
from bridge.request.outcome import Reply
from bridge.testing.conformance import StoreSuite

REPLY = Reply(b'{"status":"Accepted"}')


def key(number: int) -> Key:
    return f"00000000:1:{number}:CP001"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


def test_no_more_replies_are_kept_than_the_bound_and_the_youngest_stay() -> None:
    store = MemoryStore(entries=10)
    for number in range(100):
        assert store.begin(key(number)) is None
        store.finish(key(number), REPLY)
        assert len(store) <= 10
        assert store.begin(key(number)) is REPLY
        if number >= 4:
            assert store.begin(key(number - 4)) is REPLY
    assert store.begin(key(80)) is None


def test_no_more_bytes_of_replies_are_kept_than_the_bound() -> None:
    store = MemoryStore(max_bytes=100_000)
    for number in range(50):
        store.begin(key(number))
        store.finish(key(number), Reply(bytes(10_000)))
        assert len(store) * 10_000 <= 100_000
    assert len(store) >= 5


def test_a_reply_is_kept_for_its_time_and_at_most_twice_as_long(clock: Clock) -> None:
    start = clock.now
    for offset in (0.0, 1.0, 9.0, 9.9):
        clock.now = start
        store = MemoryStore(ttl=10, clock=clock)
        clock.now = start + offset
        store.finish(key(1), REPLY)
        clock.now = start + offset + 10
        assert store.begin(key(1)) is REPLY
        clock.now = start + offset + 20
        assert store.begin(key(1)) is None


def test_a_busy_store_keeps_a_reply_no_longer_either(clock: Clock) -> None:
    store = MemoryStore(ttl=10, clock=clock)
    for number in range(600):
        clock.now += 0.1
        assert store.begin(key(number)) is None
        store.finish(key(number), REPLY)
        for older in (number - 99, number - 201):
            if older >= 0:
                kept = store._young.get(key(older)) or store._old.get(key(older))
                assert kept is (REPLY if older == number - 99 else None)
    assert len(store) <= 201


def test_what_is_being_handled_is_known_however_long_it_takes_and_no_longer() -> None:
    store = MemoryStore(entries=4)
    store.begin(key(0))
    for number in range(1, 50):
        store.begin(key(number))
        store.finish(key(number), REPLY)
        assert store.begin(key(0)) is Running.HERE
    store.finish(key(0), REPLY)
    for number in range(50, 100):
        store.begin(key(number))
        store.finish(key(number), REPLY)
    assert store.begin(key(0)) is None


@pytest.mark.parametrize("silence", [20.0, 86_400.0])
def test_a_store_forgets_after_a_silence_too(clock: Clock, silence: float) -> None:
    """A station that counts from 1 again next morning must not be told yesterday's answer."""
    store = MemoryStore(ttl=10, clock=clock)
    store.finish(key(1), REPLY)
    clock.now += silence
    assert store.begin(key(1)) is None
    assert len(store) == 0


def test_what_is_forgotten_is_so_after_one_ageing_too() -> None:
    store = MemoryStore(entries=8)
    for number in range(4):
        store.begin(key(number))
        store.finish(key(number), REPLY)
    assert key(0) in store._old
    assert key(0) not in store._young
    store.forget(key(0))
    assert store.begin(key(0)) is None


@pytest.mark.parametrize("silence", [10.0, 15.0, 20.0, 35.0, 86_400.0])
def test_a_reply_after_a_silence_is_kept_for_its_time_like_any_other(
    clock: Clock, silence: float
) -> None:
    store = MemoryStore(ttl=10, clock=clock)
    clock.now += silence
    store.finish(key(1), REPLY)
    answered = clock.now
    clock.now = answered + 9.9
    assert store.begin(key(1)) is REPLY
    clock.now = answered + 20
    assert store.begin(key(1)) is None


def test_a_key_that_ages_out_as_it_comes_again_is_handled_by_whoever_asks(clock: Clock) -> None:
    store = MemoryStore(ttl=10, clock=clock)
    store.begin(key(1))
    store.finish(key(1), REPLY)
    clock.now += 10
    store.begin(key(2))
    store.finish(key(2), REPLY)  # now the first is one of the old ones
    assert store.begin(key(1)) is REPLY
    clock.now += 10
    assert store.begin(key(1)) is None
    assert store.begin(key(1)) is Running.HERE
    assert store.begin(key(2)) is REPLY
    store.finish(key(1), Reply(b"{}"))
    assert store.begin(key(1)) == Reply(b"{}")


def test_its_bounds_are_those_of_the_documents() -> None:
    """docs/gateways.md, docs/running.md."""
    assert (TTL, ENTRIES, BYTES, LARGE) == (600.0, 20_000, 32 * 1024 * 1024, 1024)


@pytest.mark.parametrize(("size", "counts"), [(LARGE, False), (LARGE + 1, True)])
def test_only_large_replies_are_bounded_in_bytes(size: int, *, counts: bool) -> None:
    store = MemoryStore(entries=1_000, max_bytes=10 * size)
    for number in range(30):
        store.begin(key(number))
        store.finish(key(number), Reply(bytes(size)))
    assert (len(store) < 30) is counts
