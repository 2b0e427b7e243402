"""TCP ports on loopback: free ones, and what answers on one."""

import base64
import contextlib
import http.client
import random
import socket
import struct

_PORTS = range(15_000, 32_000)
"""Where free ports are looked for; see `free_ports`."""
_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_START_FRAME = struct.Struct(">BHIHH")
"""The beginning of every server's first frame: type, channel, size, class id, method id."""
_METHOD_FRAME = 1
_CONNECTION_START = (10, 10)
"""Class id and method id."""


def free_ports(count: int) -> list[int]:
    """TCP ports on loopback that nobody uses now.

    They lie below the range from which systems take ports for outgoing connections. A port inside
    that range can be lost while the node is stopped, even to a client of ours: one that keeps
    trying a closed port there can end up connected to itself (simultaneous open, RFC 9293), and
    then the node cannot have its port back.
    """
    chooser = random.SystemRandom()
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            probe = held.enter_context(socket.socket())
            port = chooser.choice(_PORTS)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
        return ports


def accepts(port: int) -> bool:
    """Whether something accepts connections to this port on loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


def answers_http(port: int, path: str, user: str) -> bool:
    """Whether an HTTP server on loopback answers a GET with anything but an error of its own.

    `user`: name and password, with a colon between them.
    """
    credentials = base64.b64encode(user.encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", path, headers={"Authorization": f"Basic {credentials}"})
        return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def speaks_amqp(host: str, port: int) -> bool:
    """Whether an AMQP 0-9-1 server answers the protocol header with Connection.Start."""
    try:
        with socket.create_connection((host, port), timeout=1.0) as connection:
            connection.settimeout(5.0)
            connection.sendall(_PROTOCOL_HEADER)
            answer = connection.makefile("rb").read(_START_FRAME.size)
    except OSError:
        return False
    if len(answer) < _START_FRAME.size:
        return False
    kind, channel, _, *method = _START_FRAME.unpack(answer)
    return (kind, channel) == (_METHOD_FRAME, 0) and tuple(method) == _CONNECTION_START
