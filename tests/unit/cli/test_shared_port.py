"""A port on which several processes of one program listen, and no other program."""

import errno
import socket
from typing import Any

import pytest

from bridge.cli import shared_port
from bridge.cli.shared_port import can_be_shared, hold_port

pytestmark = pytest.mark.skipif(not can_be_shared(), reason="only Linux shares connections out")

HOST = "127.0.0.1"


def listening(port: int, *, shared: bool) -> socket.socket:
    """A socket as a gateway has it."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((HOST, port))
        bound.listen()
    except BaseException:
        bound.close()
        raise
    return bound


def refused(port: int, host: str | None = HOST) -> bool:
    """Whether a second program of several processes is."""
    try:
        with hold_port(host, port):
            return False
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return True


def talk(port: int, *servers: socket.socket) -> int:
    """A connection that the server ends first. Returns which server had it."""
    with socket.create_connection((HOST, port)) as client:
        for server in servers:
            server.setblocking(False)
        while True:
            for number, server in enumerate(servers):
                try:
                    accepted, _ = server.accept()
                except BlockingIOError:
                    continue
                accepted.close()
                assert client.recv(1) == b""
                return number


def test_its_processes_listen_and_all_are_given_connections() -> None:
    with (
        hold_port(HOST, 0) as port,
        listening(port, shared=True) as one,
        listening(port, shared=True) as other,
    ):
        # Nothing goes to the socket that holds the port: each connection is taken by one of both.
        assert {talk(port, one, other) for _ in range(64)} == {0, 1}


def test_nobody_else_listens_there_even_before_its_processes_do() -> None:
    with hold_port(HOST, 0) as port:
        assert refused(port)
        assert refused(port, None), "every interface is this one, too"
        with pytest.raises(OSError, match="in use"):
            listening(port, shared=False)
        with listening(port, shared=True):
            assert refused(port)
            with pytest.raises(OSError, match="in use"):
                listening(port, shared=False)


@pytest.mark.parametrize("shared", [True, False])
def test_a_port_on_which_somebody_listens_is_refused(shared: bool) -> None:
    with listening(0, shared=shared) as taken:
        assert refused(taken.getsockname()[1])


@pytest.mark.parametrize("shared", [True, False])
def test_connections_that_have_just_ended_are_no_hindrance(shared: bool) -> None:
    with listening(0, shared=shared) as former:
        port = former.getsockname()[1]
        talk(port, former)
    with hold_port(HOST, port) as held, listening(held, shared=True):
        assert held == port
        assert refused(port)
        with pytest.raises(OSError, match="in use"):
            listening(port, shared=False)
    assert not refused(port), "and it lets go of it"


def test_a_free_port_is_given_once() -> None:
    with hold_port(HOST, 0) as one, hold_port(HOST, 0) as other:
        assert one != other
        assert 0 not in {one, other}


def test_a_free_port_that_somebody_else_was_faster_to_take_is_not_insisted_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[int] = []

    def shared_or_taken(address: Any, port: int) -> socket.socket:
        if not taken:
            taken.append(port)
            raise OSError(errno.EADDRINUSE, "taken")
        return shared(address, port)

    shared = shared_port._shared
    monkeypatch.setattr(shared_port, "_shared", shared_or_taken)
    with hold_port(HOST, 0) as port:
        assert port not in taken
    assert len(taken) == 1


def test_every_interface_is_held_in_both_families() -> None:
    with hold_port(None, 0) as port:
        assert refused(port)
        assert refused(port, None)
        if socket.has_ipv6:
            assert refused(port, "::1")


def test_a_host_that_is_not_here_is_told() -> None:
    with pytest.raises(OSError, match="assign requested address"), hold_port("192.0.2.1", 0):
        pass
