"""`dtbridge tap` as people run it: a process, its output and its exit code."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import aio_pika
import pytest

from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import FULL, MODULE, dtbridge, needs_full_device, sentence
from tests.integration.support import (
    PATIENCE,
    ROOT,
    WorkerProcess,
    clean_environment,
    close_connections,
)

VENDORS = "tests.integration.decision_table_vendors:routers"


class Tap:
    """`dtbridge tap …` as a process, and what it prints."""

    def __init__(self, url: str, *arguments: str, **settings: str) -> None:
        self.process = subprocess.Popen(
            [*MODULE, "tap", *arguments],
            env=clean_environment({"DTBRIDGE_AMQP_URL": url} | settings),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._news = threading.Condition()
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def __enter__(self) -> Self:
        self.told("listening")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()

    def told(self, text: str, times: int = 1) -> None:
        """Wait until standard error has it so many times."""
        with self._news:
            self._news.wait_for(lambda: "\n".join(self.err).count(text) >= times, PATIENCE)
        assert "\n".join(self.err).count(text) >= times, self.err

    def lines(self, count: int) -> list[str]:
        """Wait for so many lines of standard output."""
        with self._news:
            self._news.wait_for(lambda: len(self.out) >= count, PATIENCE)
        assert len(self.out) >= count, (self.out, self.err)
        return self.out[:count]

    def wait(self) -> int:
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.wait()


@pytest.fixture
def worker(amqp_url: str) -> Iterator[WorkerProcess]:
    with WorkerProcess(VENDORS, amqp_url, events="all", event_bodies="true") as worker:
        yield worker


def send(url: str, message: str, station: str = "CP1", vendor: str = "com.acme") -> None:
    arguments = ["--station", station, "--vendor", vendor, "--message", message]
    dtbridge("send", *arguments, "--timeout", "20", "--amqp-url", url)


@pytest.mark.usefixtures("worker")
def test_events_are_shown_live_until_ctrl_c(amqp_url: str) -> None:
    with Tap(amqp_url) as tap:
        send(amqp_url, "Nothing")
        send(amqp_url, "Raises", "CP\x1b[2J")
        first, second, third = tap.lines(3)
        assert tap.end() == 0
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} accepted +CP1 +com\.acme Nothing +[\d.]+ ms", first)
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} failed +CP\\x1b\[2J +com\.acme Raises ", second)
    assert third.startswith(" " * 13 + "RuntimeError, InternalError, failed, ocpp2.0.1 id ")
    assert all(len(line) <= 80 for line in (first, second))
    assert tap.err == [
        "dtbridge: listening to datatransfer.events for all requests; times are UTC, Ctrl-C ends"
    ]
    assert "hunter2" not in "\n".join(tap.out)


@pytest.mark.usefixtures("worker")
def test_only_what_is_wanted_is_shown(amqp_url: str) -> None:
    wanted = ["--vendor", "COM.ACME", "--vendor", "nobody", "--station", "CP2", "--station", "CP3"]
    outcomes = ["--outcome", "accepted", "--outcome", "unknown_vendor"]
    with Tap(amqp_url, *wanted, *outcomes, "--json", "--count", "2") as tap:
        send(amqp_url, "Nothing", "CP1")
        send(amqp_url, "Raises", "CP2")
        send(amqp_url, "m", "CP2", "EN+")
        send(amqp_url, "m", "CP2", "somebody else")
        send(amqp_url, "Nothing", "CP2")
        send(amqp_url, "m", "CP3", "Nobody")
        assert tap.wait() == 0
    events = [json.loads(line) for line in tap.out]
    assert [(event["vendor"], event["station"], event["outcome"]) for event in events] == [
        ("com.acme", "CP2", "accepted"),
        ("Nobody", "CP3", "unknown_vendor"),
    ]
    assert "vendor COM.ACME or nobody, station CP2 or CP3" in tap.err[0]


@pytest.mark.usefixtures("worker")
def test_bodies_are_shown_only_if_that_is_asked_for_and_always_saved(
    amqp_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"cut short":')
    with (
        Tap(amqp_url, "--save", str(file), "--json") as hiding,
        Tap(amqp_url, "--bodies") as showing,
    ):
        send(amqp_url, "Nothing")
        (hidden,) = hiding.lines(1)
        _, request, answer = showing.lines(3)
        assert (hiding.end(), showing.end(signal.SIGTERM)) == (0, 0)
    assert not {"request", "answer"} & json.loads(hidden).keys()
    assert request.strip() == 'request: {"vendorId":"com.acme","messageId":"Nothing"}'
    assert answer.strip() == 'answer: {"status":"Accepted"}'
    before, saved = file.read_text().splitlines()
    assert before == '{"cut short":'
    assert json.loads(saved)["answer"] == '{"status":"Accepted"}'
    assert json.loads(saved).items() >= json.loads(hidden).items()


def test_it_connects_again_and_goes_on(broker: Any) -> None:
    url = broker.add_vhost("tap-again")
    with WorkerProcess(VENDORS, url, events="all") as worker, Tap(url) as tap:
        close_connections(broker, url)
        tap.told("listening again")
        worker.until("consuming", 2)
        for number in range(1, 100):
            send(url, "Nothing")  # the first ones may come before the worker's events do
            if len(tap.out) >= 1 or number > 20:
                break
        assert "accepted" in tap.lines(1)[0]
        assert tap.end() == 0
    assert any("dtbridge: connecting: " in line for line in tap.err)
    broker.delete_vhost("tap-again")


def test_what_is_no_event_is_left_out_and_told_once(amqp_url: str) -> None:
    async def publish(*bodies: bytes) -> None:
        async with await aio_pika.connect(amqp_url) as connection:
            exchange = await (await connection.channel()).get_exchange("datatransfer.events")
            for body in bodies:
                await exchange.publish(aio_pika.Message(body), "x.y")

    with WorkerProcess(VENDORS, amqp_url, events="failures"), Tap(amqp_url) as tap:
        event = {"time": "\x1b]0;", "outcome": "\x9b2J", "vendor": "\u202e", "attempt": -1}
        asyncio.run(publish(b"\x1b[2J", b"{}", json.dumps(event).encode()))
        (line, _) = tap.lines(2)
        assert tap.end() == 0
    assert sum("is left out" in line for line in tap.err) == 1
    assert all(character.isprintable() for character in line)


def test_without_an_exchange_it_says_what_to_do(amqp_url: str) -> None:
    with WorkerProcess(VENDORS, amqp_url):
        pass
    done = dtbridge("tap", "--amqp-url", amqp_url)
    assert done.returncode == 1
    told = sentence(done)
    assert "there is no exchange 'datatransfer.events'" in told
    assert "dtbridge run … --events all" in told
    assert "`dtbridge topology apply … --events`" in told


def test_without_a_broker_it_says_so() -> None:
    (port,) = free_ports(1)
    done = dtbridge("tap", "--amqp-url", f"amqp://127.0.0.1:{port}", "--connect-timeout", "0.1")
    assert done.returncode == 1
    assert "no broker at" in sentence(done)


def test_a_file_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    done = dtbridge("tap", "--save", str(tmp_path / "nowhere" / "events.jsonl"))
    assert done.returncode == 2
    assert "cannot be written: No such file or directory" in sentence(done)


@needs_full_device
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("where", ["file", "output"])
def test_a_disk_that_is_full_ends_it_with_a_sentence(amqp_url: str, where: str) -> None:
    with FULL.open("w") as full:
        process = subprocess.Popen(
            [*MODULE, "tap", *(["--save", str(FULL)] if where == "file" else [])],
            env=clean_environment({"DTBRIDGE_AMQP_URL": amqp_url}),
            cwd=ROOT,
            stdout=full if where == "output" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        process.stderr.readline()
        send(amqp_url, "Nothing")
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "cannot be written: No space left on device" in told


@pytest.mark.usefixtures("worker")
def test_it_ends_when_nobody_reads_any_more(amqp_url: str) -> None:
    process = subprocess.Popen(
        [*MODULE, "tap"],
        env=clean_environment({"DTBRIDGE_AMQP_URL": amqp_url}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr.readline()
    process.stdout.close()
    send(amqp_url, "Nothing")
    send(amqp_url, "Nothing")
    assert process.wait(PATIENCE) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.usefixtures("worker")
def test_on_a_terminal_lines_are_as_wide_as_that_is(amqp_url: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "tap", "--count", "1"],
        env=clean_environment({"DTBRIDGE_AMQP_URL": amqp_url, "COLUMNS": "120"}),
        cwd=ROOT,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    assert process.stderr is not None
    process.stderr.readline()
    send(amqp_url, "Nothing")
    assert process.wait(PATIENCE) == 0
    process.stderr.close()
    line = os.read(ours, 4096).decode().splitlines()[0]
    os.close(ours)
    assert len(line) == 120
