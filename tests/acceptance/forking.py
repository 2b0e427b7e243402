"""The process that :mod:`tests.acceptance.forks` has forked. Its argument is the socket's address.

For each connection, one process reads the order and forks another, which becomes the command.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import typer

from bridge.cli.main import application
from bridge.cli.start import main

ORDER = 1024 * 1024
"""Bytes at most."""


def serve(address: str) -> socket.socket:
    """Fork whenever somebody connects. Returns in the process that is to answer."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that have answered
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(1, b"ready\n")
    while 0 not in (ready := select.select([0, listening.fileno()], [], [])[0]):
        if ready:
            asking, _ = listening.accept()
            if os.fork() == 0:
                return asking
            asking.close()
    Path(address).unlink()
    os._exit(0)


def become(order: dict[str, Any], streams: list[int]) -> None:
    """Be as a process that was started so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 256)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[1:] = order["arguments"]
    sys.path[0] = order["folder"]


def answer(asking: socket.socket) -> None:
    """Read the order. Returns in the process that is to follow it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, streams, _, _ = socket.recv_fds(asking, ORDER, 3)
    while not text.endswith(b"\n"):
        text += asking.recv(ORDER)
    number = os.fork()
    if number == 0:
        become(json.loads(text), streams)
        return
    asking.sendall(b"%d\n" % number)
    _, status = os.waitpid(number, 0)
    asking.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def import_all() -> None:
    """Every command, and what typer imports no sooner than it reads an option."""
    with contextlib.suppress(typer.BadParameter):
        application()(["send", "--timeout", "soon"], standalone_mode=False)
    gc.freeze()  # or each process would copy what its first collection looks at


if __name__ == "__main__":
    import_all()
    answer(serve(sys.argv[1]))
    main()
