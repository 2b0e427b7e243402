"""Plays a suite on something that is broken, to see that it says so."""

import inspect
from itertools import product
from typing import Any


async def failing(suite: type, **fixtures: Any) -> set[str]:
    """The names of the tests of a suite that fail. `fixtures`: functions that make them anew."""
    return {
        name
        for name, test in inspect.getmembers(suite, inspect.isfunction)
        if name.startswith("test_")
        for given in _parameters(test)
        if await _fails(suite, test, fixtures, given)
    }


def _parameters(test: Any) -> list[dict[str, Any]]:
    """Each way in which a test is called."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    return [
        dict(zip((mark.args[0] for mark in marks), values, strict=True))
        for values in product(*(mark.args[1] for mark in marks))
    ]


async def _fails(suite: type, test: Any, fixtures: Any, given: dict[str, Any]) -> bool:
    wanted = inspect.signature(test).parameters
    made = {name: make() for name, make in fixtures.items() if name in wanted}
    try:
        result = test(suite(), **made, **given)
        if inspect.isawaitable(result):
            await result
    except Exception:  # noqa: BLE001 - however it fails
        return True
    return False
