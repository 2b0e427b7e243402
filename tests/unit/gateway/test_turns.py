"""One at a time for each key, in order, and nothing left of it afterwards."""

from bridge.gateway.turns import Turns


class Waiter:
    """Waits for a turn, and keeps it or not."""

    def __init__(self, name: str, told: list[str], *, keeps: bool = True) -> None:
        self.name = name
        self.told = told
        self.keeps = keeps

    def on_turn(self) -> bool:
        self.told.append(self.name)
        return self.keeps


def test_who_waits_is_told_in_order_unless_withdrawn() -> None:
    turns = Turns()
    told: list[str] = []
    first, second, third = (Waiter(name, told) for name in ("first", "second", "third"))
    assert turns.take("a", first)
    assert not turns.take("a", second)
    assert not turns.take("a", third)
    assert turns.is_wanted("a")
    turns.withdraw("a", second)
    turns.withdraw("a", second)  # it does not wait any more
    turns.withdraw("b", second)
    turns.give("a")
    assert told == ["third"]
    assert not turns.is_wanted("a")
    assert len(turns) == 1
    turns.give("a")
    assert (told, len(turns)) == (["third"], 0)


def test_a_turn_that_nobody_keeps_goes_on_however_many_wait() -> None:
    turns = Turns()
    told: list[str] = []
    turns.take("a", Waiter("holder", told))
    for number in range(5_000):
        turns.take("a", Waiter(f"{number}", told, keeps=False))
    turns.give("a")
    assert (len(told), len(turns)) == (5_000, 0)


def test_who_comes_while_a_turn_is_passed_on_waits() -> None:
    turns = Turns()
    told: list[str] = []

    class Again(Waiter):
        def on_turn(self) -> bool:
            assert not turns.take("a", Waiter("late", told))
            return super().on_turn()

    turns.take("a", Waiter("holder", told))
    turns.take("a", Again("again", told, keeps=False))
    turns.give("a")
    assert (told, len(turns)) == (["again", "late"], 1)


def test_other_keys_do_not_mind() -> None:
    turns = Turns()
    told: list[str] = []
    for name in ("holder", "next"):
        turns.take("a", Waiter(name, told))
    assert turns.take("b", Waiter("other", told))
    turns.give("b")
    assert (told, len(turns)) == ([], 1)


def test_100_000_keys_are_nothing_when_they_are_not_used() -> None:
    turns = Turns()
    for number in range(100_000):
        turns.take(number, Waiter("nobody", []))
    assert len(turns) == 100_000
    for number in range(100_000):
        turns.give(number)
    assert turns._taken == {}
