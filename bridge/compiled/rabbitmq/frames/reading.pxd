# Types for the compiled rabbitmq/frames/reading.py. Numbers that a frame states are unsigned, and
# are compared with their bounds before anything is added to them.

import cython

from bridge.rabbitmq.frames cimport octets
from bridge.rabbitmq.frames.octets cimport uint, ulong
from bridge.rabbitmq.frames.properties cimport Decoder

cdef uint METHOD, HEADER, BODY, HEARTBEAT, FRAME_END
cdef Py_ssize_t FRAME_OVERHEAD, HEADER_AT_MOST, HEADER_READ
cdef ulong BODY_AT_MOST
cdef uint BASIC_DELIVER, BASIC_RETURN, BASIC_CANCEL, BASIC_ACK, BASIC_NACK
cdef uint CHANNEL_CLOSE, CONNECTION_CLOSE, CONNECTION_BLOCKED, CONNECTION_UNBLOCKED


@cython.final
cdef class ContentReader:
    cdef object _sink, _on_confirm, _on_deliver, _header
    cdef Decoder _decoder
    cdef uint _channel, _takes
    cdef tuple _method, _returned
    cdef ulong _size, _missing
    cdef bytes _room

    @cython.locals(
        method=uint, end=Py_ssize_t, consumer_tag=bytes, delivery_tag=ulong, redelivered=uint,
        kind=uint, channel=uint, length=Py_ssize_t, _class=uint, _weight=uint, size=ulong,
        flags=uint, header_stop=Py_ssize_t, body_stop=Py_ssize_t, body=bytes, bits=uint,
    )
    cpdef Py_ssize_t on_method(
        self, bytes data, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t limit
    ) except -1

    @cython.locals(_class=uint, _weight=uint, size=ulong, flags=uint)
    cpdef on_header(self, bytes data, Py_ssize_t at, Py_ssize_t stop)

    @cython.locals(size=ulong)
    cpdef on_body(self, bytes data, Py_ssize_t at, Py_ssize_t stop)

    cpdef begin_body(self, ulong size)

    cpdef put_body(self, bytes data, Py_ssize_t at, Py_ssize_t stop)

    @cython.locals(room=bytes)
    cpdef end_body(self)

    cpdef _complete(self, bytes body)


@cython.final
cdef class FrameStream:
    cdef object _sink
    cdef Decoder _decoder
    cdef dict _readers
    cdef Py_ssize_t _limit, _needed, _received, _rest
    cdef list _pieces
    cdef ContentReader _open

    @cython.locals(
        at=Py_ssize_t, size=Py_ssize_t, kind=uint, channel=uint, length=Py_ssize_t, stop=Py_ssize_t,
        taken=Py_ssize_t, rest=Py_ssize_t, reader=ContentReader,
    )
    cpdef feed(self, bytes data)

    @cython.locals(size=Py_ssize_t, at=Py_ssize_t)
    cdef Py_ssize_t _go_on(self, ContentReader reader, bytes data) except -1
