"""The node that all other tests rely on: alone, hard to kill by accident, gone without a trace."""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import aio_pika
import pytest
from yarl import URL

from bridge.rabbitmq.management import Management
from bridge.testing.rabbitmq import BrokerUnavailable, PrivateBroker, PrivateCluster, find_server
from bridge.testing.rabbitmq.server import root_of

ROOT = Path(__file__).parents[2]
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

pytestmark = pytest.mark.own_node


def test_it_listens_on_loopback_alone(broker: PrivateBroker) -> None:
    found = broker.eval(
        "[A || P <- erlang:ports(), {ok, Is} <- [prim_inet:getstatus(P)],"
        " lists:member(listen, Is), {ok, {A, _}} <- [inet:sockname(P)]]"
    )
    assert set(re.findall(r"\{[^{}]*\}", found)) == {"{127,0,0,1}"}


def test_the_process_is_the_erlang_machine_itself(broker: PrivateBroker) -> None:
    assert int(broker.eval("list_to_integer(os:getpid())")) == broker.pid


def test_version_and_rabbitmqctl_agree(broker: PrivateBroker) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", broker.version)
    assert broker.version in broker.ctl("version") + broker.ctl("status")


@pytest.mark.parametrize("expression", ["1 +", "nobody:knows(this)", 'throw("ä")'])
def test_an_expression_that_fails_is_an_error_that_shows_it(
    broker: PrivateBroker, expression: str
) -> None:
    with pytest.raises(BrokerUnavailable, match=re.escape(repr(expression))):
        broker.eval(expression)
    assert broker.eval("1 + 1.") == "2"


def test_a_failing_rabbitmqctl_command_is_an_error_that_shows_it(broker: PrivateBroker) -> None:
    with pytest.raises(BrokerUnavailable, match=r"rabbitmqctl delete_vhost nowhere: .*nowhere"):
        broker.ctl("delete_vhost", "nowhere")


async def test_each_test_has_a_virtual_host_of_its_own(
    broker: PrivateBroker, amqp_url: str
) -> None:
    other = broker.add_vhost("other")
    async with await aio_pika.connect(amqp_url) as first, await aio_pika.connect(other) as second:
        await (await first.channel()).declare_queue("mine", durable=True)
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await (await second.channel()).declare_queue("mine", passive=True)
    broker.delete_vhost("other")


async def test_after_a_kill_the_node_starts_again_on_its_data_and_port(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("survivor")
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"still here", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "kept")
    breakable_broker.sync()
    breakable_broker.kill()
    assert not breakable_broker.running
    breakable_broker.start()
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).get_queue("kept")
        incoming = await queue.get(timeout=10)
        assert incoming is not None
        assert incoming.body == b"still here"
        await incoming.ack()
    breakable_broker.delete_vhost("survivor")


def test_a_restart_is_a_new_process_of_the_same_node(breakable_broker: PrivateBroker) -> None:
    before = breakable_broker.pid, breakable_broker.url, breakable_broker.eval("node()")
    breakable_broker.restart()
    after = breakable_broker.pid, breakable_broker.url, breakable_broker.eval("node()")
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_a_paused_node_says_nothing_until_it_is_resumed(breakable_broker: PrivateBroker) -> None:
    breakable_broker.pause()
    with socket.create_connection(("127.0.0.1", breakable_broker.port)) as connection:
        connection.sendall(PROTOCOL_HEADER)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        breakable_broker.resume()
        connection.settimeout(10)
        assert connection.recv(1) == b"\x01"


def test_the_certificate_is_valid_for_localhost_and_its_address(tls_broker: PrivateBroker) -> None:
    context = ssl.create_default_context(cafile=tls_broker.ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for host in ("localhost", "127.0.0.1"):
        plain = socket.create_connection(("127.0.0.1", tls_broker.tls_port))
        with context.wrap_socket(plain, server_hostname=host) as connection:
            connection.sendall(PROTOCOL_HEADER)
            assert connection.recv(1) == b"\x01"


def test_a_cluster_is_one_and_a_lost_node_comes_back(cluster: PrivateCluster) -> None:
    first, second, third = cluster.nodes
    assert running_nodes(first) == {first.node, second.node, third.node}
    third.kill()
    assert running_nodes(first) == {first.node, second.node}
    third.start()
    assert running_nodes(first) == {first.node, second.node, third.node}
    assert len(set(cluster.urls)) == 3


def running_nodes(node: PrivateBroker) -> set[str]:
    status = json.loads(node.ctl("cluster_status", "--formatter", "json"))
    return set(status["running_nodes"])


# ---- what is left ----


def test_neither_ctrl_c_nor_a_killed_python_leaves_anything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bridge.testing.rabbitmq", "run"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    runs = [
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        for _ in range(2)
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline().startswith("amqp://guest:guest@127.0.0.1:")
    processes = [int(path.read_text()) for path in tmp_path.glob("*/*.pid")]
    assert len(processes) == 4  # RabbitMQ and epmd, twice
    interrupted, killed = runs
    os.killpg(interrupted.pid, signal.SIGINT)  # as a terminal does: to the whole group
    killed.kill()
    for run in runs:
        run.communicate(timeout=30)
    assert interrupted.returncode == 0
    wait_until_gone(tmp_path, processes)


def test_the_management_api_and_rabbitmqctl_are_there_for_who_runs_a_broker() -> None:
    command = [sys.executable, "-m", "bridge.testing.rabbitmq", "run", "--management"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline().startswith("amqp://guest:guest@127.0.0.1:")
            url = run.stdout.readline().strip()
            overview = asyncio.run(Management(URL(url)).overview())
            assert overview.rabbitmq_version
            server = find_server()
            assert server is not None
            if root_of(server) is None:
                assert run.stderr is not None
                assert "guest" in run_in_shell(f"{rabbitmqctl_of(run.stderr)} list_users")
        finally:
            run.send_signal(signal.SIGINT)
    assert run.returncode == 0


def rabbitmqctl_of(lines: Iterable[str]) -> str:
    said = "rabbitmqctl of this node: "
    return next(line.removeprefix(said).strip() for line in lines if line.startswith(said))


def run_in_shell(command: str) -> str:
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout


def wait_until_gone(folder: Path, processes: list[int], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while any(folder.iterdir()) or any(map(is_running, processes)):
        assert time.monotonic() < deadline, (
            list(folder.iterdir()),
            list(filter(is_running, processes)),
        )
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Whether a process is there, and no zombie.

    An orphan that has ended stays as a zombie if the first process of a container does not reap it.
    """
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip()[:1] not in {"", "Z"}


def fake_server(folder: Path, script: str) -> Path:
    (folder / "rabbitmq-env").touch()
    server = folder / "rabbitmq-server"
    server.write_text(f"#!/bin/sh\n{script}\n")
    server.chmod(0o755)
    return server


def test_a_server_that_ends_while_starting_shows_its_last_words(tmp_path: Path) -> None:
    broker = PrivateBroker(server=fake_server(tmp_path, "echo no memory; exit 3"))
    with (
        pytest.raises(BrokerUnavailable, match="ended with exit code 3 while starting:\nno memory"),
        broker,
    ):
        pass
    assert not broker.folder.parent.exists()


def test_a_server_that_never_answers_is_ended(tmp_path: Path) -> None:
    broker = PrivateBroker(server=fake_server(tmp_path, "exec sleep 600"), start_timeout=0.2)
    with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.2 s"), broker:
        pass
    assert not broker.running
    assert not broker.folder.parent.exists()


def test_a_port_somebody_took_is_replaced(tmp_path: Path) -> None:
    """The first start finds the port in use; the second has other ports."""
    real = find_server()
    if real is not None and root_of(real) is not None:
        pytest.skip("a server that belongs to another root folder is not started from outside")
    script = f"if mkdir {tmp_path}/once; then echo eaddrinuse; exit 1; fi; exec {real}"
    broker = PrivateBroker(server=fake_server(tmp_path, script))
    first = broker.port
    with broker:
        assert broker.port != first
        assert broker.running


def test_the_suite_runs_on_a_given_broker(tmp_path: Path) -> None:
    """`--amqp-url`: the management API then makes the virtual hosts."""
    claim = tmp_path / "test_given.py"
    claim.write_text(
        "import aio_pika\n\n"
        "async def test_given(amqp_url):\n"
        "    async with await aio_pika.connect(amqp_url) as connection:\n"
        "        await (await connection.channel()).declare_queue('q', durable=True)\n"
    )
    with PrivateBroker(plugins=["rabbitmq_management"]) as broker:
        plugins = ("-p", "no:cacheprovider", "-p", "tests.conftest")
        options = ("-q", *plugins, "-c", str(ROOT / "pyproject.toml"), "--amqp-url", broker.url)
        management = broker.management_url.replace("guest:guest@", "")
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, str(claim)],
            env=os.environ | {"DTBRIDGE_TEST_MANAGEMENT_URL": management},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "1 passed" in run.stdout, run.stdout + run.stderr
        assert broker.eval("length(rabbit_vhost:list_names())") == "1"
