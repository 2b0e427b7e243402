# Types for the compiled rabbitmq/publishing.py. What it calls by its module, writing.encode_publish, is a call within C.

import cython

from bridge.rabbitmq.frames cimport writing
from bridge.rabbitmq.outbox cimport Outbox
from bridge.transport cimport Publishing

cdef object _CONFIRMED

cdef class PublishLane:
    cdef unsigned int _channel
    cdef Py_ssize_t _frame_max
    cdef Outbox _outbox
    cdef unsigned long long _sequence, _lowest
    cdef dict _pending
    cdef set _returned
    cdef bint _closed
    cdef public object on_end, on_returned, on_refused

    @cython.locals(outbox=Outbox)
    cpdef publish(self, Publishing publishing, waiting)

    @cython.locals(number="unsigned long long", first="unsigned long long")
    cpdef on_confirm(self, unsigned long long delivery_tag, bint multiple, bint ok)
