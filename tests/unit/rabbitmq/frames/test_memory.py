"""What the codec remembers belongs to a connection: two loops in two threads share nothing."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]

TWO_THREADS = """
import sys, threading, time

from bridge.rabbitmq.frames.reading import FrameStream
from bridge.rabbitmq.frames.writing import Encoder
from bridge.transport import Properties, Publishing
from tests.unit.rabbitmq.wire import Channel, deliver, frame, frames_of, header

SECONDS = 3.0
sys.setswitchinterval(1e-6)
wrong = []

def publishing(name):
    properties = Properties(
        content_type=f"{name}/json", headers={f"{name}-header": "value"}, type=name, reply_to=name
    )
    return Publishing(f"{name}-key", b"body", properties, correlation_id="c")

def received(sent):
    "What the broker makes of a publishing: its content, after a Basic.Deliver."
    _, (_, _, content), (_, _, body) = frames_of(sent)
    return deliver(1, 1, key=b"key") + frame(2, 1, content) + frame(3, 1, body)

def run(name, expected, until):
    encoder = Encoder()
    events = []
    stream = FrameStream(None)
    stream.register(1, Channel(1, events))
    told = None
    while not wrong and time.monotonic() < until:
        for _ in range(100):
            sent = encoder.publish(1, publishing(name))
            stream.feed(received(sent))
            properties = events.pop()[7]
            if sent != expected or properties != Properties(
                f"{name}/json", None, {f"{name}-header": "value"}, None, None, "c", name,
                type=name,
            ):
                wrong.append((name, sent, properties))
                return

names = ("CallError", "DataTransferResponse")
expected = {name: Encoder().publish(1, publishing(name)) for name in names}
until = time.monotonic() + SECONDS
threads = [threading.Thread(target=run, args=(name, expected[name], until)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(f"{wrong[0]}" if wrong else 0)
"""


def test_two_threads_read_and_write_nothing_of_each_others() -> None:
    """As plain Python, whose threads may change places between any two steps of the codec."""
    ended = subprocess.run(
        [sys.executable, "-c", TWO_THREADS],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"DTBRIDGE_PURE": "1"},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
