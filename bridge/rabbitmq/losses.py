"""How a connection is lost, and how the libraries say so."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import aio_pika
import aiormq

_NOT_ALLOWED: Final = " 530 "
"""The reply code for a virtual host that does not exist, or is not for this user (AMQP 0-9-1
§1.2)."""

LOST: Final = (
    aio_pika.exceptions.AMQPError,
    aiormq.exceptions.AMQPError,
    OSError,
    asyncio.TimeoutError,
    RuntimeError,  # aiormq: "connection closed" while something waits for it
)


@contextlib.contextmanager
def losses_as_errors() -> Iterator[None]:
    """Make what is awaited within raise an error for a lost connection, at worst ConnectionError,
    and CancelledError only for a cancellation.

    aiormq does not always. Whoever waits for the broker's answer when the connection is lost may be
    "cancelled" or get a bare Exception, and a task that nobody wanted to stop would end without a
    word. A real cancellation, on the other hand, aiormq swallows at certain moments of connecting.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("losses_as_errors() is for coroutines")
    cancellations = task.cancelling()
    try:
        yield
    except BaseException as error:
        if task.cancelling() > cancellations:
            raise asyncio.CancelledError from error
        if isinstance(error, asyncio.CancelledError) or type(error) is Exception:
            raise ConnectionError("the connection was lost") from error
        raise
    if task.cancelling() > cancellations:
        raise asyncio.CancelledError


def retrieve(task: "asyncio.Task[None]") -> None:
    """A callback for a task whose owner may be gone before it fails: asyncio must not complain."""
    if not task.cancelled():
        task.exception()


def is_refusal(error: BaseException) -> bool:
    """Whether the broker is there and will not have us, so that trying again does not help."""
    return isinstance(
        error,
        aiormq.exceptions.AuthenticationError
        | aiormq.exceptions.ProbableAuthenticationError
        | aiormq.exceptions.ConnectionNotAllowed
        | aiormq.exceptions.IncompatibleProtocolError,
    ) or (isinstance(error, aiormq.exceptions.ConnectionClosed) and _NOT_ALLOWED in str(error))


def explain(error: BaseException) -> str:
    """An error of the libraries in words."""
    match error:
        case aiormq.exceptions.ProbableAuthenticationError():
            return "it refused the user name or password"
        case asyncio.TimeoutError():
            return "it does not answer"
    return str(error) or type(error).__name__
