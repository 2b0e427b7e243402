# Types for the compiled rabbitmq/publishing.py.

import cython

from bridge.compiled cimport fields
from bridge.rabbitmq.frames.writing cimport Encoder
from bridge.rabbitmq.outbox cimport Outbox
from bridge.telemetry cimport ticks
from bridge.transport cimport Publishing

cdef object _CONFIRMED
cdef str _DIRECT
cdef Py_ssize_t LARGE


@cython.final
cdef class PublishLane:
    cdef unsigned int _channel
    cdef Outbox _outbox
    cdef Encoder _encoder
    cdef object _on_end, _on_returned, _on_refused, _aside, _time_confirm
    cdef public long long proven
    cdef unsigned long long _sequence, _lowest, _timed
    cdef double _timed_at
    cdef dict _pending
    cdef set _returned
    cdef bint _closed

    @cython.locals(outbox=Outbox)
    cpdef publish(self, Publishing publishing, waiting)

    @cython.locals(number="unsigned long long", first="unsigned long long")
    cpdef on_confirm(self, unsigned long long delivery_tag, bint multiple, bint ok)
