"""The listener for probes and scrapers: in threads of its own, and bounded in every way."""

import contextlib
import http
import http.client
import re
import socket
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from bridge.telemetry import http as listening
from bridge.telemetry.http import CONNECTIONS, HEAD, Answer, Listener, ListenError, text

PATIENCE = 10.0


def hello(query: str, headers: Message) -> Answer:
    return text(f"hello {query} {headers.get('X-Name', '')}".strip())


def fails(query: str, headers: Message) -> Answer:
    raise ValueError("with a secret")


PAGES = {"/hello": hello, "/fails": fails}


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener.on_port("127.0.0.1", 0)
    listener.start(PAGES)
    yield listener
    listener.close()


def port_of(listener: Listener) -> int:
    return int(listener.address.rpartition(":")[2])


def connect(listener: Listener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(listener)), PATIENCE)


def say(listener: Listener, raw: bytes) -> bytes:
    """What is answered to these bytes, up to the end of the connection."""
    with connect(listener) as connection:
        connection.sendall(raw)
        return everything(connection)


def everything(connection: socket.socket) -> bytes:
    received = b""
    while more := connection.recv(65_536):
        received += more
    return received


def ask(
    listener: Listener, method: str, path: str, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(listener), timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()


def test_a_page_is_made_from_query_and_headers(listener: Listener) -> None:
    response, body = ask(listener, "GET", "/hello?a=1", **{"X-Name": "you"})
    assert (response.status, body) == (200, b"hello a=1 you\n")
    assert response.getheader("Cache-Control") == "no-store"
    assert response.getheader("Connection") == "close"


def test_no_header_names_a_version(listener: Listener) -> None:
    response, _ = ask(listener, "GET", "/hello")
    assert response.getheader("Server") is None
    assert b"Python" not in say(listener, b"POST / HTTP/1.1\r\n\r\n")


def test_head_is_get_without_the_body(listener: Listener) -> None:
    response, body = ask(listener, "HEAD", "/hello")
    assert (response.status, body) == (200, b"")
    assert response.getheader("Content-Length") == "6"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_another_method_is_refused(listener: Listener, method: str) -> None:
    response, _ = ask(listener, method, "/hello")
    assert response.status == 405
    assert response.getheader("Allow") == "GET, HEAD"


def test_the_root_names_the_pages_and_so_does_what_is_not_found(listener: Listener) -> None:
    assert ask(listener, "GET", "/")[0].status == 200
    response, body = ask(listener, "GET", "/nothing")
    assert (response.status, body) == (404, b"There are /hello, /fails.\n")


def test_a_page_that_fails_tells_its_reader_no_more_than_the_kind(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        response, body = ask(listener, "GET", "/fails")
        assert (response.status, body) == (500, b"failed: ValueError\n")
    assert len([record for record in caplog.records if record.name == "bridge.http"]) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /hello HTTP/9.9\r\n\r\n",
        b"GET /hello HTTP/x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",  # TLS
        b"GET /\x1b[31m\xff HTTP/1.1\r\n\r\n",
        b"POST /hello\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nno colon\r\n\r\n",
    ],
)
def test_nonsense_is_refused_and_not_repeated(listener: Listener, raw: bytes) -> None:
    answer = say(listener, raw)
    assert b"\x1b" not in answer
    assert not answer or re.match(rb"HTTP/1\.1 [245]\d\d ", answer)
    assert ask(listener, "GET", "/hello")[0].status == 200


def test_a_request_that_is_too_long_is_refused(listener: Listener) -> None:
    head = b"GET /hello HTTP/1.1\r\n"
    assert say(listener, head.ljust(HEAD, b"x")).startswith(b"HTTP/1.1 431 ")
    many = head + b"A: b\r\n" * ((HEAD - len(head)) // 6 + 1)
    assert say(listener, many[:HEAD]).startswith(b"HTTP/1.1 431 ")


def test_a_request_that_does_not_come_in_time_is_given_up(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of it trickles in meanwhile."""
    monkeypatch.setattr(listening, "REQUEST_WITHIN", 0.3)
    with connect(listener) as connection, contextlib.suppress(ConnectionError):
        end = time.monotonic() + PATIENCE
        connection.settimeout(0.05)
        while True:
            assert time.monotonic() < end
            connection.sendall(b"G")
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    break


def test_a_connection_that_takes_too_long_is_ended(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "ANSWER_WITHIN", 0.1)
    with connect(listener) as connection:
        assert everything(connection) == b""


def test_those_who_open_connections_and_say_nothing_keep_nobody_out(listener: Listener) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(listener)) for _ in range(3 * CONNECTIONS)]
        assert ask(listener, "GET", "/hello")[0].status == 200
        assert everything(idle[0]) == b""  # the oldest has made room
        assert len(listener._server._open) <= 2 * CONNECTIONS + 1


def test_an_address_that_is_taken_is_told_in_a_sentence(listener: Listener) -> None:
    with pytest.raises(ListenError, match=rf"^cannot listen on {listener.address}: Address"):
        Listener.on_port("127.0.0.1", port_of(listener))


def test_a_name_that_does_not_exist_is_told_in_a_sentence() -> None:
    with pytest.raises(ListenError, match=r"^cannot listen on no-such-host.invalid:1: "):
        Listener.on_port("no-such-host.invalid", 1)


def test_every_interface_is_both_families_where_there_are_both() -> None:
    listener = Listener.on_port(None, 0)
    listener.start(PAGES)
    try:
        assert ask(listener, "GET", "/hello")[0].status == 200  # by 127.0.0.1
        if socket.has_dualstack_ipv6():
            with socket.create_connection(("::1", port_of(listener)), PATIENCE) as connection:
                connection.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
                assert everything(connection).startswith(b"HTTP/1.1 200 ")
    finally:
        listener.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
def test_an_ipv6_address_is_shown_in_brackets() -> None:
    listener = Listener.on_port("::1", 0)
    try:
        assert re.fullmatch(r"\[::1\]:\d+", listener.address)
    finally:
        listener.close()


def test_a_unix_socket_is_private_and_replaces_that_of_one_who_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "0"
    path.touch()
    listener = Listener.on_path(path)
    listener.start(PAGES)
    try:
        assert listener.is_private
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /hello HTTP/1.1\r\n\r\n")
            assert everything(connection).endswith(b"hello\n")
    finally:
        listener.close()


def test_what_is_closed_is_given_back_at_once_whoever_is_connected(listener: Listener) -> None:
    with connect(listener) as connection:
        assert ask(listener, "GET", "/hello")[0].status == 200
        listener.close()
        with contextlib.suppress(ConnectionError):
            assert everything(connection) == b""
    again = Listener.on_port("127.0.0.1", port_of(listener))
    again.close()
