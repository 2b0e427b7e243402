"""How a command runs to its end."""

import asyncio
import signal
import threading
import time

import pytest

from bridge.cli.process import complete


def test_a_command_returns_what_its_coroutine_does() -> None:
    async def main() -> int:
        await asyncio.sleep(0)
        return 7

    assert complete(main()) == 7


def test_a_handler_that_exits_does_not_end_the_command() -> None:
    """asyncio lets SystemExit through the loop; who awaits the handler still learns of it."""

    async def handler() -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)

    async def main() -> str:
        task = asyncio.ensure_future(handler())
        (done,), _ = await asyncio.wait([task])
        return type(done.exception()).__name__

    assert complete(main()) == "SystemExit"


def test_a_command_that_exits_itself_does_end() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise SystemExit(5)

    with pytest.raises(SystemExit) as ended:
        complete(main())
    assert ended.value.code == 5


def test_a_handler_that_interrupts_does_not_end_a_command_that_heeds_signals() -> None:
    """Where SIGINT has a handler of its own, KeyboardInterrupt is nobody's Ctrl-C."""

    async def handler() -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    async def main() -> str:
        task = asyncio.ensure_future(handler())
        (done,), _ = await asyncio.wait([task])
        return type(done.exception()).__name__

    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        assert complete(main()) == "KeyboardInterrupt"
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_breaks_into_no_callback_and_cancels_the_command() -> None:
    """A protocol that takes bytes is such a callback: it would close its connection."""
    seen: list[str] = []

    def callback() -> None:
        signal.raise_signal(signal.SIGINT)
        seen.append("the callback went on")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(callback)
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("tidied up")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            complete(main())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["the callback went on", "tidied up"]


def test_a_second_ctrl_c_ends_a_command_whose_loop_is_blocked() -> None:
    seen: list[str] = []

    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        seen.append("the first waits for the loop")
        signal.raise_signal(signal.SIGINT)
        seen.append("never")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            complete(main())
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["the first waits for the loop"]


def test_a_thread_that_a_command_leaves_running_is_not_waited_for() -> None:
    let_go = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, let_go.wait, 60)
        await asyncio.sleep(0)

    since = time.monotonic()
    complete(main())
    assert time.monotonic() - since < 30
    let_go.set()
