# Types for the compiled rabbitmq/frames/reading.py. What a frame says of itself is unsigned and compared with its bounds before it is added to.

import cython

from bridge.compiled cimport fields
from bridge.rabbitmq.frames cimport octets
from bridge.rabbitmq.frames.octets cimport uint, ulong
from bridge.transport cimport Properties

cdef uint METHOD, HEADER, BODY, HEARTBEAT, FRAME_END
cdef Py_ssize_t FRAME_OVERHEAD
cdef uint BASIC_DELIVER, BASIC_RETURN, BASIC_CANCEL, BASIC_ACK, BASIC_NACK
cdef uint CHANNEL_CLOSE, CONNECTION_CLOSE, CONNECTION_BLOCKED, CONNECTION_UNBLOCKED

cdef dict _texts, _addresses

cdef class _Place:
    cdef bytes octets
    cdef str text

cdef _Place _content_type, _content_encoding, _reply_to, _type, _user_id, _app_id
cdef list _header_names
cdef Py_ssize_t _PLACES

@cython.locals(key=bytes)
cdef str _known(bytes data, Py_ssize_t at, Py_ssize_t end, _Place place)

@cython.locals(key=bytes, pair=tuple)
cdef tuple _address(bytes data, Py_ssize_t at, Py_ssize_t stop)

@cython.locals(end=Py_ssize_t)
cpdef object decode_properties(bytes data, Py_ssize_t at, Py_ssize_t stop, uint flags)

cdef object _properties_or_none(bytes data, Py_ssize_t at, Py_ssize_t stop, uint flags)

@cython.locals(end=Py_ssize_t, kind=uint, value=bytes, table=dict, number=Py_ssize_t)
cdef dict _table(bytes data, Py_ssize_t at, Py_ssize_t stop, int level)


cdef class ContentReader:
    cdef object _sink, _on_confirm, _on_deliver, _header
    cdef uint _channel, _takes
    cdef tuple _method, _returned
    cdef ulong _missing
    cdef list _chunks

    @cython.locals(
        method=uint, end=Py_ssize_t, consumer_tag=bytes, delivery_tag=ulong, redelivered=uint, kind=uint, channel=uint, length=Py_ssize_t,
        _class=uint, _weight=uint, size=ulong, flags=uint, header_stop=Py_ssize_t, body_stop=Py_ssize_t, body=bytes, bits=uint,
    )
    cpdef Py_ssize_t on_method(self, bytes data, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t limit) except -1

    @cython.locals(_class=uint, _weight=uint, size=ulong, flags=uint)
    cpdef on_header(self, bytes data, Py_ssize_t at, Py_ssize_t stop)

    @cython.locals(size=ulong, chunks=list)
    cpdef on_body(self, bytes data, Py_ssize_t at, Py_ssize_t stop)

    cpdef _complete(self, bytes body)


cdef class FrameStream:
    cdef object _sink
    cdef Py_ssize_t _limit, _needed, _received
    cdef list _pieces
    cdef public dict readers

    @cython.locals(
        at=Py_ssize_t, size=Py_ssize_t, kind=uint, channel=uint, length=Py_ssize_t, stop=Py_ssize_t, taken=Py_ssize_t, rest=Py_ssize_t,
        reader=ContentReader,
    )
    cpdef feed(self, bytes data)
