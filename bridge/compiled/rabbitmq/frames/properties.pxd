# Types for the compiled rabbitmq/frames/properties.py. Numbers that a frame states are unsigned,
# and are compared with their bounds before anything is added to them.

import cython

from bridge.compiled cimport fields
from bridge.rabbitmq.frames cimport octets
from bridge.rabbitmq.frames.octets cimport uint
from bridge.transport cimport Properties

cdef uint HAS_CONTENT_TYPE, HAS_CONTENT_ENCODING, HAS_HEADERS, HAS_DELIVERY_MODE, HAS_PRIORITY
cdef uint HAS_CORRELATION_ID, HAS_REPLY_TO, HAS_EXPIRATION, HAS_MESSAGE_ID, HAS_TIMESTAMP
cdef uint HAS_TYPE, HAS_USER_ID, HAS_APP_ID, HAS_CLUSTER_ID, NO_PROPERTY
cdef Py_ssize_t _NAMES_KEPT

@cython.final
cdef class _Place:
    cdef bytes octets
    cdef str text


@cython.final
cdef class Decoder:
    cdef dict _texts, _addresses
    cdef list _header_names
    cdef _Place _content_type, _content_encoding, _reply_to, _type, _user_id, _app_id

    @cython.locals(end=Py_ssize_t)
    cpdef object properties(self, bytes data, Py_ssize_t at, Py_ssize_t stop, uint flags)

    cpdef object properties_or_none(self, bytes data, Py_ssize_t at, Py_ssize_t stop, uint flags)

    @cython.locals(key=bytes, pair=tuple, middle=Py_ssize_t, end=Py_ssize_t)
    cpdef tuple address(self, bytes data, Py_ssize_t at, Py_ssize_t stop)

    cpdef dict table(self, bytes data)

    @cython.locals(key=bytes)
    cdef str _known(self, bytes data, Py_ssize_t at, Py_ssize_t end, _Place place)

    @cython.locals(end=Py_ssize_t, kind=uint, number=Py_ssize_t, table=dict)
    cdef dict _table(self, bytes data, Py_ssize_t at, Py_ssize_t stop, int level)
