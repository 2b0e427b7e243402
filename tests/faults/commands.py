"""An operator's commands under load, to their end or killed at a frame."""

import signal
import struct
from collections.abc import Callable
from typing import Final

from tests.faults.processes import BridgeProcess, StageError, tail
from tests.faults.proxy import Proxy
from tests.faults.stage import Stage
from tests.faults.witness import METHOD_FRAME, Witness

BIND: Final = (50, 20)
BIND_OK: Final = (50, 21)
UNBIND: Final = (50, 50)
UNBIND_OK: Final = (50, 51)
"""Class id and method id of what decides whether a vendor is paused, and of the broker's word."""


class _Watch(Witness):
    """Acts once, when it sees a method."""

    def __init__(self, method: tuple[int, int], act: Callable[[], None]) -> None:
        super().__init__()
        self._method = method
        self._act = act
        self.acted = False

    def saw(self, connection: int, frame: bytes, *, to_broker: bool) -> None:
        if self.acted or frame[0] != METHOD_FRAME:
            return
        if struct.unpack_from("!HH", frame, 7) == self._method:
            self.acted = True
            self._act()


def _process(stage: Stage, *arguments: str) -> BridgeProcess:
    process = BridgeProcess(arguments, stage.folder / f"command-{len(stage.commands)}.log")
    stage.commands.append(process)
    return process


def _at(urls: list[str]) -> list[str]:
    return [text for url in urls for text in ("--amqp-url", url)]


async def begin(stage: Stage, *arguments: str) -> BridgeProcess:
    """Start `dtbridge ARGUMENTS`, past the proxies."""
    process = _process(stage, *arguments, *_at(stage.urls))
    await process.start()
    return process


async def dtbridge(stage: Stage, *arguments: str) -> str:
    """Run it to its end, and return what it says. Raises StageError if it fails."""
    process = await begin(stage, *arguments)
    ended = await process.ended(60.0)
    if ended != 0:
        raise StageError(f"{arguments[0]} ended with {ended}: {tail(process.log)}")
    return process.said


async def killed_at(stage: Stage, method: tuple[int, int], *arguments: str) -> None:
    """Run it until it sends the broker a frame of that method, or is sent one: then it is killed.

    The frame does not arrive.
    """

    def kill() -> None:
        process.signal(signal.SIGKILL)
        proxy.reset()

    async with Proxy(stage.urls[0], _Watch(method, kill), stage.numbers) as proxy:
        process = _process(stage, *arguments, *_at([proxy.url()]))
        await process.start()
        ended = await process.ended(30.0)
    if ended != -signal.SIGKILL:
        raise StageError(f"{arguments[0]} was to be killed, and ended with {ended}")
