"""A task that begins at once, where the interpreter can."""

import asyncio
import sys
from asyncio import Task
from collections.abc import Coroutine
from typing import Any, Final

EAGER: Final = sys.version_info >= (3, 12)


def start(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> "Task[Any]":
    """Run a coroutine as a task of `loop`: now, up to where it first waits; before CPython 3.12 from the loop's next turn on."""
    if EAGER:
        return Task(coroutine, loop=loop, eager_start=True)  # type: ignore[call-arg] # not in 3.11
    return Task(coroutine, loop=loop)
