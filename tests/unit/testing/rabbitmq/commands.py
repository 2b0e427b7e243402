"""Stand-ins for the system's commands, as small scripts, and for a server that answers."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

START_FRAME = b"\x01\x00\x00\x00\x00\x00\x1c\x00\x0a\x00\x0a\x00\x09" + bytes(23) + b"\xce"
"""Connection.Start, as a server's first frame."""


def quiet(_line: str) -> None:
    """Nobody waits."""


def add_command(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def add_server(folder: Path) -> Path:
    """What tells the package's own script from a wrapper: it stands beside rabbitmq-env."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rabbitmq-env").touch()
    add_command(folder, "rabbitmq-server", "exit 1")
    return folder / "rabbitmq-server"


def add_docker(commands: Path, log: Path, port: int) -> None:
    add_command(
        commands, "docker", f'echo "$*" >>{log}; [ "$1" = port ] && echo "127.0.0.1:{port}"; exit 0'
    )


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """The port of a server that answers each connection's first bytes with `reply`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(8)
                        connection.sendall(reply)

        server = threading.Thread(target=serve)
        server.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
