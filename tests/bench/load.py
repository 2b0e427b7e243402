"""The load generator for machines without a C compiler or librabbitmq's headers.

It has load.c's command line, events and result, and works by the same means: one template of frames
for each vendor, ids overwritten, one write for each batch. But it costs about as much as a good
worker, so on few cores it is the limit of what can be measured.
"""

import argparse
import contextlib
import json
import os
import re
import secrets
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pamqp.frame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.common import FieldTable
from pamqp.header import ContentHeader, ProtocolHeader

CHANNEL = 1
FRAME_MAX = 131_072
FRAME_HEADER = struct.Struct(">BHI")
METHOD_FRAME, HEADER_FRAME, BODY_FRAME = 1, 2, 3
BASIC_DELIVER = struct.pack(">HH", 60, 60)
NO_ID = "0" * 25
"""A place for an id, as long as every id: eight digits of the run, a dash, 16 of the number."""
WRITE_AHEAD = 4_194_304
PROBE_SECONDS = 60.0
GRACE_SECONDS = 5.0
LONGEST_RUN_SECONDS = 3600
ACCEPTED = b'"status":"Accepted"'


def make_payload(vendor: str, size: int) -> bytes:
    """The body of a request, filled up to `size` bytes with its free text."""
    detail = (
        '"powerW":11040,"voltageV":[230.1,229.8,231.0],"currentA":[15.9,16.1,16.0],'
        if size >= 200
        else ""
    )
    start = (
        f'{{"vendorId":"{vendor}","messageId":"MeterSample",'
        f'"data":{{"meter":17,"energyWh":48213907,{detail}"note":"'
    )
    end = '"}}'
    return (start + "x" * (size - len(start) - len(end)) + end).encode()


def make_template(
    vendor: str, reply_to: str, options: argparse.Namespace
) -> tuple[bytes, list[int], int | None]:
    """A request's frames, and the offsets in them of its two ids and of its deadline (or None)."""
    headers: FieldTable = {"ocpp-station-id": "CS-BERLIN-0017", "ocpp-version": "ocpp2.0.1"}
    marker = 0x5EED_0000_5EED_0000
    if options.deadline_ms:
        headers["ocpp-deadline"] = marker
    properties = commands.Basic.Properties(
        content_type="application/json",
        headers=headers,
        delivery_mode=2 if options.persistent else 1,
        correlation_id=NO_ID,
        reply_to=reply_to,
        expiration=str(options.deadline_ms) if options.deadline_ms else None,
        message_id=NO_ID,
        message_type="DataTransfer",
    )
    payload = make_payload(vendor, options.size)
    publish = commands.Basic.Publish(exchange="datatransfer", routing_key=vendor)
    header = ContentHeader(0, len(payload), properties)
    frames = pamqp.frame.marshal(publish, CHANNEL) + pamqp.frame.marshal(header, CHANNEL)
    ids = [match.start() for match in re.finditer(NO_ID.encode(), frames)]
    deadline = frames.find(struct.pack(">q", marker)) if options.deadline_ms else None
    step = FRAME_MAX - 8
    bodies = [ContentBody(payload[start : start + step]) for start in range(0, len(payload), step)]
    return frames + b"".join(pamqp.frame.marshal(body, CHANNEL) for body in bodies), ids, deadline


class Connection:
    """A socket that is logged in at the broker and consumes an exclusive queue of replies."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname or "localhost", parts.port or 5672))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""
        self._call(0, ProtocolHeader())
        login = f"\0{parts.username}\0{parts.password}"
        self._call(
            0, commands.Connection.StartOk(client_properties={}, mechanism="PLAIN", response=login)
        )
        self._send(0, commands.Connection.TuneOk(channel_max=8, frame_max=FRAME_MAX, heartbeat=0))
        self._call(0, commands.Connection.Open(virtual_host=parts.path.removeprefix("/") or "/"))
        self._call(CHANNEL, commands.Channel.Open())
        declared = self._call(CHANNEL, commands.Queue.Declare(exclusive=True, auto_delete=True))
        assert isinstance(declared, commands.Queue.DeclareOk)
        self.reply_to = str(declared.queue)
        self._call(
            CHANNEL, commands.Basic.Consume(queue=self.reply_to, no_ack=True, exclusive=True)
        )
        self.socket.setblocking(False)

    def _send(self, channel: int, frame: pamqp.frame.FrameTypes) -> None:
        self.socket.sendall(pamqp.frame.marshal(frame, channel))

    def _call(self, channel: int, frame: pamqp.frame.FrameTypes) -> pamqp.frame.FrameTypes:
        """Send a frame and return the broker's next one, which is its answer."""
        self._send(channel, frame)
        while True:
            consumed, _, answer = (
                pamqp.frame.unmarshal(self._unread) if self._unread else (0, 0, None)
            )
            if answer is not None:
                self._unread = self._unread[consumed:]
                if isinstance(answer, commands.Connection.Close | commands.Channel.Close):
                    sys.exit(f"the broker closed: {answer.reply_code} {answer.reply_text}")
                return answer
            self._unread += self.socket.recv(65_536) or sys.exit("the broker closed the connection")


class Generator:
    """Sends requests, and counts what comes back."""

    def __init__(self, connection: Connection, options: argparse.Namespace) -> None:
        self._socket = connection.socket
        self._poll = select.poll()
        self._options = options
        self._templates = [
            make_template(vendor, connection.reply_to, options) for vendor in options.vendor
        ]
        self._run = secrets.token_hex(4)
        self._out = bytearray()
        self._in = b""
        self._pending: int | None = None
        self._outstanding: dict[int, float] = {}
        self._first_due = 0.0
        self._first_number = 0
        self.sent = self.answered = self.duplicate = self.foreign = self.refused = 0
        self.first_reply = 0.0
        self.counting = False
        self.latencies: list[float] = []

    # --- out

    def _make_request(self, due: float) -> None:
        frames, ids, deadline = self._templates[self.sent % len(self._templates)]
        at = len(self._out)
        self._out += frames
        text = f"{self._run}-{self.sent:016x}".encode()
        for offset in ids:
            self._out[at + offset : at + offset + len(text)] = text
        if deadline is not None:
            value = struct.pack(">q", int(time.time() * 1000) + self._options.deadline_ms)
            self._out[at + deadline : at + deadline + 8] = value
        self._outstanding[self.sent] = due
        self.sent += 1

    def _turn(self, until: float) -> None:
        """Write what is due, wait for the socket, read what came."""
        if self._out:
            with contextlib.suppress(BlockingIOError):
                del self._out[: self._socket.send(self._out)]
        self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
        wait = max(0.0, min(until - time.monotonic(), 0.05))
        if any(events & ~select.POLLOUT for _, events in self._poll.poll(wait * 1000)):
            self._in += self._socket.recv(1 << 18) or sys.exit("the broker closed the connection")
            self._read()

    # --- in

    def _read(self) -> None:
        at, data = 0, self._in
        while len(data) - at >= 8:
            kind, _, size = FRAME_HEADER.unpack_from(data, at)
            end = at + 7 + size
            if len(data) <= end:
                break
            self._on_frame(kind, data[at + 7 : end])
            at = end + 1
        self._in = data[at:]

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if kind == METHOD_FRAME and payload[:4] != BASIC_DELIVER:
            text = payload[4:].decode(errors="replace")
            sys.exit(f"the broker sent method {payload[:4].hex()}: {text}")
        if kind == HEADER_FRAME:
            self._pending = self._number_in(payload)
        elif kind == BODY_FRAME:
            self._on_reply(self._pending, payload)

    def _number_in(self, header: bytes) -> int | None:
        """The number in the correlation_id; None if it is not one of this run."""
        at = header.find(self._run.encode() + b"-")
        return int(header[at + 9 : at + 25], 16) if at > 0 else None

    def _on_reply(self, number: int | None, body: bytes) -> None:
        if number is None or number >= self.sent:
            self.foreign += 1
            return
        due = self._outstanding.pop(number, None)
        if due is None:
            self.duplicate += 1
            return
        now = time.monotonic()
        self.answered += 1
        self.first_reply = self.first_reply or now
        self.refused += ACCEPTED not in body
        if self.counting:
            self.latencies.append(now - due)

    # --- phases

    def keep_outstanding(self, until: float) -> None:
        """Send a request for each reply that comes."""
        while (now := time.monotonic()) < until:
            while (
                self.sent - self.answered < self._options.outstanding
                and len(self._out) < WRITE_AHEAD
            ):
                self._make_request(now)
            self._turn(until)

    def keep_rate(self, until: float) -> None:
        """Send at the rate that was asked for, whatever comes back."""
        if not self._first_due:
            self._first_due, self._first_number = time.monotonic(), self.sent
        while (now := time.monotonic()) < until:
            while (
                due := self._first_due + (self.sent - self._first_number) / self._options.rate
            ) <= now:
                self._make_request(due)
            self._turn(min(due, until))

    def await_replies(self, seconds: float) -> None:
        """Wait until all replies have come, or the time is up."""
        until = time.monotonic() + seconds
        while self.answered < self.sent and time.monotonic() < until:
            self._turn(until)

    def probe(self) -> None:
        """Send a request to each vendor; the first alone, so that the worker is up for the rest."""
        for number in range(len(self._templates)):
            self._make_request(time.monotonic())
            if number == 0:
                self.await_replies(PROBE_SECONDS)
        self.await_replies(PROBE_SECONDS)
        if self.answered < self.sent:
            sys.exit(f"no reply to {self.sent - self.answered} of the first {self.sent} requests")

    def publish(self, count: int) -> None:
        """Send until `count` requests are sent, as fast as the socket takes them."""
        while self.sent < count or self._out:
            while self.sent < count and len(self._out) < WRITE_AHEAD:
                self._make_request(time.monotonic())
            self._turn(time.monotonic() + 1)

    def collect(self) -> None:
        """Read replies until all have come."""
        while self.answered < self.sent:
            self._turn(time.monotonic() + 0.05)

    def account(self) -> dict[str, int]:
        """What was sent, missing, answered twice, foreign, or not Accepted."""
        faults = {name: getattr(self, name) for name in ("duplicate", "foreign", "refused")}
        return {"sent": self.sent, "missing": self.sent - self.answered, **faults}


def say(line: dict[str, Any]) -> None:
    """Write a line of JSON for the harness."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def event(name: str) -> None:
    """Tell the harness that something has happened."""
    say({"event": name})


def processor_times(watched: list[int]) -> list[float]:
    """Processor seconds used so far by us, by the whole machine, and by each watched process.

    A process's clock id is made from its number as clock_getcpuclockid(3) does.
    """
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]
    clocks = (time.clock_gettime((~pid << 3) | 2) for pid in watched)
    return [time.process_time(), busy / os.sysconf("SC_CLK_TCK"), *clocks]


def run(generator: Generator, options: argparse.Namespace) -> dict[str, Any]:
    """Put a steady load on the worker, and return the result."""
    generator.probe()
    event("ready")
    watched = [int(number) for number in sys.stdin.readline().split()]
    send_until = generator.keep_rate if options.rate else generator.keep_outstanding
    send_until(time.monotonic() + options.warmup)
    before, start = generator.answered, time.monotonic()
    cpu_before = processor_times(watched)
    generator.counting = True
    send_until(start + options.seconds)
    generator.counting = False
    elapsed = time.monotonic() - start
    own, busy, *others = (
        after - before for after, before in zip(processor_times(watched), cpu_before, strict=True)
    )
    counted = generator.answered - before
    generator.await_replies(GRACE_SECONDS)
    latencies = sorted(generator.latencies) or [0.0]
    return {
        "round_trips": counted,
        "seconds": elapsed,
        "rate": counted / elapsed,
        "p50_us": latencies[len(latencies) // 2] * 1e6,
        "p99_us": latencies[len(latencies) * 99 // 100] * 1e6,
        "max_us": latencies[-1] * 1e6,
        **generator.account(),
        "load_cpu_s": own,
        "busy_cpu_s": busy,
        "watched_cpu_s": others,
    }


def fill(generator: Generator, options: argparse.Namespace) -> dict[str, Any]:
    """Fill the queue, collect the replies, and return the result."""
    generator.publish(options.count)
    event("sent")
    generator.collect()
    elapsed = time.monotonic() - generator.first_reply if generator.first_reply else 0.0
    return {"round_trips": generator.answered, "seconds": elapsed, **generator.account()}


def parse() -> argparse.Namespace:
    """Read the command line, which is load.c's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["run", "fill"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--vendor", action="append", required=True)
    for name, kind, default in (
        ("outstanding", int, 200),
        ("rate", float, 0.0),
        ("seconds", float, 3.0),
        ("warmup", float, 0.5),
        ("count", int, 0),
        ("size", int, 250),
        ("deadline-ms", int, 0),
        ("persistent", int, 0),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default)
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    signal.alarm(LONGEST_RUN_SECONDS)
    options = parse()
    generator = Generator(Connection(options.url), options)
    say(run(generator, options) if options.mode == "run" else fill(generator, options))


if __name__ == "__main__":
    main()
