# Types for the compiled rabbitmq/outbox.py.

import cython


@cython.final
cdef class Outbox:
    cdef object _transport
    cdef list _sources
    cdef public object loop
    cdef public list parts
    cdef public bint due, large, paused
    cpdef add(self, bytes frames)
    cpdef add_large(self, list frames)
    cpdef ask(self)
    cpdef flush(self)
