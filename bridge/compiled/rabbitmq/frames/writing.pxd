# Types for the compiled rabbitmq/frames/writing.py.

import cython

from bridge.compiled cimport fields
from bridge.rabbitmq.frames cimport octets
from bridge.rabbitmq.frames.octets cimport uint
from bridge.transport cimport Properties, Publishing

cdef uint METHOD, FRAME_END, HAS_EXPIRATION
cdef Py_ssize_t FRAME_OVERHEAD


@cython.final
cdef class _Method:
    cdef uint channel
    cdef str exchange, routing_key
    cdef bint mandatory
    cdef bytes frame


@cython.final
cdef class _Shared:
    cdef Properties properties
    cdef uint flags
    cdef bytes before, between, after


@cython.final
cdef class Encoder:
    cdef Py_ssize_t _limit
    cdef dict _methods, _shared, _short_strings
    cdef _Method _last_method

    cpdef bytes publish(self, uint channel, Publishing publishing)

    cpdef list publish_large(self, uint channel, Publishing publishing)

    @cython.locals(
        method=bytes, properties=Properties, correlation_id=str, own=bytes, flags=uint,
        before=bytes, between=bytes, after=bytes, shared=_Shared,
    )
    cdef bytes _publish(self, uint channel, Publishing publishing, bytes body)

    @cython.locals(flags=uint, parts=list)
    cpdef tuple properties(self, Properties properties)

    @cython.locals(parts=list)
    cpdef bytes table(self, table, int level=*)

    @cython.locals(encoded=bytes)
    cdef bytes _known(self, text)

    @cython.locals(key=tuple, method=_Method, known=_Method)
    cdef bytes _method(self, uint channel, str exchange, str routing_key, bint mandatory)

    @cython.locals(shared=_Shared)
    cdef _Shared _shared_of(self, Properties properties)
