"""What several tests of the codec read and write."""

import struct

from bridge.transport import Properties

FRAME_MAX = 4096
MAX_PAYLOAD = FRAME_MAX - 8
MIB = 1024 * 1024

ALL_PROPERTIES = Properties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={"ocpp-station-id": "CS-1"},
    delivery_mode=2,
    priority=9,
    correlation_id="corr",
    reply_to="amq.gen-reply",
    expiration="30000",
    message_id="m1",
    timestamp=1_700_000_000,
    type="DataTransfer",
    user_id="guest",
    app_id="gateway",
)
ALL_PROPERTIES_BYTES = (
    b"\x10application/json\x05utf-8"
    b"\x00\x00\x00\x19\x0focpp-station-idS\x00\x00\x00\x04CS-1"
    b"\x02\x09\x04corr\x0damq.gen-reply\x0530000\x02m1"
    b"\x00\x00\x00\x00\x65\x53\xf1\x00\x0cDataTransfer\x05guest\x07gateway"
)
ALL_FLAGS = 0xFFF8

SIZES = [
    0,
    1,
    MAX_PAYLOAD - 1,
    MAX_PAYLOAD,
    MAX_PAYLOAD + 1,
    FRAME_MAX - 1,
    FRAME_MAX,
    FRAME_MAX + 1,
    2 * MAX_PAYLOAD,
]


def table(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content
