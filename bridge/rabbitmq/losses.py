"""How a connection is lost, and how the libraries say so."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from typing import Final

import aio_pika
import aiormq

from bridge.dialects.partitions import KIND, PLUGIN

_NOT_ALLOWED: Final = " 530 "
"""The reply code for a virtual host that does not exist or is not for this user, and for a limit of
connections that is reached (AMQP 0-9-1 §1.2)."""

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


def telling(error: BaseException) -> int:
    """How much an error tells: of several failures, a person wants the reason with the most.

    None of them is final. A limit of connections passes, a user or a virtual host may be about to
    be made, and another host of the list may know them already.
    """
    match error:
        case (
            aiormq.exceptions.AuthenticationError()
            | aiormq.exceptions.ProbableAuthenticationError()
            | aiormq.exceptions.ConnectionNotAllowed()
        ):
            return 4  # a broker is there, and says why it will not have us
        case aiormq.exceptions.ConnectionClosed() if _NOT_ALLOWED in str(error):
            return 4
        case (
            aiormq.exceptions.IncompatibleProtocolError()
            | aiormq.exceptions.ConnectionClosed()
            | aiormq.exceptions.ProtocolSyntaxError()
            | ssl.SSLError()
        ):
            return 3  # something is there, and we do not understand each other
        case TimeoutError():
            return 1  # nothing can be said
    return 2  # the name, the address or the network


def plugin_missing(error: BaseException) -> str:
    """What to do if a broker does not know the exchange of partitions; else an empty text.

    3.10 ends the connection for that (503 COMMAND_INVALID), as if it were a fault of the protocol;
    4.3 ends the channel.
    """
    if f"exchange type '{KIND}'" not in str(error):
        return ""
    return (
        f"the broker has no exchanges of type {KIND}, which partitions need: "
        f"rabbitmq-plugins enable {PLUGIN}, on each node"
    )


def explain(error: BaseException) -> str:
    """An error of the libraries in words."""
    if missing := plugin_missing(error):
        return missing
    match error:
        case aiormq.exceptions.ProbableAuthenticationError():
            return "it refused the user name or password"
        case asyncio.TimeoutError():
            return "it does not answer"
    return str(error) or type(error).__name__
