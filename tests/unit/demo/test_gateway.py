"""What the demo's gateway makes of a payload, and what it costs a worker to import the demo's handlers."""

import subprocess
import sys

import pytest

from bridge.demo.gateway import routing_key


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (b'{"vendorId":"EN+","data":{"SN":"1"}}', "en_2b"),
        (b'{"messageId":"m","vendorId":"EV-BOX"}', "ev-box"),
        (b'{"vendorId":""}', ""),
        (b'{"vendorId":12}', ""),
        (b'{"messageId":"m"}', ""),
        (b'{"vendorId":"EN+"', ""),
        (b"[]", ""),
        (b"", ""),
        (b'{"vendorId":"\xff"}', ""),
        (b'{"data":' + b"[" * 100_000, ""),
    ],
)
def test_the_routing_key_is_empty_where_there_is_no_vendor_id_to_read(payload: bytes, key: str) -> None:
    assert routing_key(payload) == key


def test_the_handlers_need_neither_a_screen_nor_an_amqp_client() -> None:
    code = "import sys, bridge.demo.vendors; print(sorted({'rich', 'aio_pika', 'aiormq'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
