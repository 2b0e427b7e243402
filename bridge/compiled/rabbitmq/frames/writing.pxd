# Types for the compiled rabbitmq/frames/writing.py.

import cython

from bridge.compiled cimport fields
from bridge.rabbitmq.frames cimport octets
from bridge.rabbitmq.frames.octets cimport uint
from bridge.transport cimport Properties, Publishing

cdef uint METHOD, FRAME_END
cdef Py_ssize_t FRAME_OVERHEAD

cdef dict _methods, _shared, _short_strings

cdef class _Method:
    cdef uint channel
    cdef str exchange, routing_key
    cdef bint mandatory
    cdef bytes frame

cdef _Method _last_method

@cython.locals(key=tuple, method=_Method, known=_Method)
cdef bytes _publish_method(uint channel, str exchange, str routing_key, bint mandatory)

cdef class _Shared:
    cdef Properties properties
    cdef uint flags
    cdef bytes before, between, after


@cython.locals(shared=_Shared)
cdef _Shared _shared_of(Properties properties)

@cython.locals(
    method=bytes, properties=Properties, correlation_id=str, own=bytes, flags=uint, before=bytes, between=bytes, after=bytes, shared=_Shared, limit=Py_ssize_t
)
cpdef bytes encode_publish(uint channel, Publishing publishing, Py_ssize_t frame_max=*)
