"""Checks become findings, and findings one answer with its reason."""

from types import SimpleNamespace
from typing import Any

from bridge.telemetry.health import Finding, all_of, loop_check, together

WELL = Finding(True, "it is")


def test_all_is_well_if_each_is() -> None:
    assert all_of({"a": lambda: WELL, "b": lambda: WELL}) == Finding(
        True, "", {"a": WELL, "b": WELL}
    )


def test_the_reason_is_that_of_the_first_that_is_not_well() -> None:
    found = together({"a": WELL, "b": Finding(False, "gone"), "c": Finding(False, "too")})
    assert (found.ok, found.reason) == (False, "b: gone")
    assert list(found.checks) == ["a", "b", "c"]


def test_a_check_that_raises_is_not_well_and_the_others_are_asked_all_the_same() -> None:
    def raises() -> Finding:
        raise ValueError("with a secret")

    found = all_of({"a": raises, "b": lambda: WELL})
    assert found.reason == "a: it cannot be told: ValueError"
    assert found.checks["b"] is WELL


def test_a_loop_is_well_until_it_has_not_turned_for_the_bound() -> None:
    pulse: Any = SimpleNamespace(silent_for=5.0)
    check = loop_check(pulse, 5.0)
    assert check().ok
    pulse.silent_for = 5.1
    assert check() == Finding(False, "it has not turned for 5.1 s: something blocks it")
