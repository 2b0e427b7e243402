"""Free ports, and what answers on one."""

import contextlib
import socket

import pytest

from bridge.testing.rabbitmq import free_ports, speaks_amqp
from tests.unit.testing.rabbitmq.commands import START_FRAME, answering


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with contextlib.ExitStack() as held:
        for port in ports:
            held.enter_context(socket.create_server(("127.0.0.1", port)))


@pytest.mark.parametrize(
    ("reply", "is_amqp"),
    [
        (START_FRAME, True),
        (b"AMQP\x00\x00\x09\x01", False),
        (b"HTTP/1.1 400 Bad Request\r\n", False),
        (b"", False),
    ],
)
def test_only_connection_start_counts_as_ready(reply: bytes, is_amqp: bool) -> None:
    with answering(reply) as port:
        assert speaks_amqp("127.0.0.1", port) is is_amqp


def test_a_closed_port_is_not_ready() -> None:
    assert not speaks_amqp("127.0.0.1", free_ports(1)[0])
