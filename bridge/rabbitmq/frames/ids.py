"""The numbers of AMQP 0-9-1: frame types, methods, property flags; and the protocol's error."""

from typing import Final

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE
FRAME_OVERHEAD: Final = 8
"""Bytes around a payload: type (1), channel (2), size (4), end (1)."""
FRAME_MAX: Final = 131_072
"""RabbitMQ's default for the largest frame, in bytes, with everything around its payload."""

HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

# Methods: the class in the upper 16 bits, the method in the lower (AMQP 0-9-1 §4.2.4).
CONNECTION_CLOSE: Final = 10 << 16 | 50
CONNECTION_BLOCKED: Final = 10 << 16 | 60
"""RabbitMQ's own, as is the next: https://www.rabbitmq.com/docs/connection-blocked."""
CONNECTION_UNBLOCKED: Final = 10 << 16 | 61
CHANNEL_CLOSE: Final = 20 << 16 | 40
QUEUE_BIND: Final = 50 << 16 | 20
QUEUE_BIND_OK: Final = 50 << 16 | 21
QUEUE_UNBIND: Final = 50 << 16 | 50
QUEUE_UNBIND_OK: Final = 50 << 16 | 51
BASIC_CANCEL: Final = 60 << 16 | 30
BASIC_PUBLISH: Final = 60 << 16 | 40
BASIC_RETURN: Final = 60 << 16 | 50
BASIC_DELIVER: Final = 60 << 16 | 60
BASIC_ACK: Final = 60 << 16 | 80
BASIC_REJECT: Final = 60 << 16 | 90
BASIC_NACK: Final = 60 << 16 | 120
"""RabbitMQ's own: https://www.rabbitmq.com/docs/nack."""

# The property flags of a content header, in wire order (AMQP 0-9-1 §4.2.6.1).
HAS_CONTENT_TYPE: Final = 1 << 15
HAS_CONTENT_ENCODING: Final = 1 << 14
HAS_HEADERS: Final = 1 << 13
HAS_DELIVERY_MODE: Final = 1 << 12
HAS_PRIORITY: Final = 1 << 11
HAS_CORRELATION_ID: Final = 1 << 10
HAS_REPLY_TO: Final = 1 << 9
HAS_EXPIRATION: Final = 1 << 8
HAS_MESSAGE_ID: Final = 1 << 7
HAS_TIMESTAMP: Final = 1 << 6
HAS_TYPE: Final = 1 << 5
HAS_USER_ID: Final = 1 << 4
HAS_APP_ID: Final = 1 << 3
HAS_CLUSTER_ID: Final = 1 << 2
"""Deprecated: read over, never written."""
NO_PROPERTY: Final = 0b11
"""Bit 1 is unused; bit 0 says that more flags follow, and no version has any."""

HEADER_READ: Final = 1024 * 1024
"""Bytes of a content header that are read, at most. RabbitMQ holds what it sends to frame_max, but
not content headers: it adds its own (x-delivery-count, x-death) to one that a publisher has filled
up to that size, and a publisher may have agreed to larger frames than we have."""
HEADER_AT_MOST: Final = 16 * 1024 * 1024
"""Bytes of a content header that are taken at all. Between the two it counts as one that cannot be
read; RabbitMQ takes no larger message unless it is told to."""
BODY_AT_MOST: Final = 512 * 1024 * 1024
"""Bytes of a body that are taken at all: the most that RabbitMQ can be told to take
(``max_message_size``). Room is made for a body when its content header has come."""

NESTED_AT_MOST: Final = 100
"""Levels of tables and arrays in a header table. RabbitMQ's own x-death has three. A bound is
needed because compiled code overflows its stack where Python raises RecursionError."""


class ProtocolError(Exception):
    """The peer sent bytes that are not AMQP 0-9-1. Nothing after them can be read."""
