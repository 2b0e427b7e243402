# Types for the compiled rabbitmq/outbox.py.

cdef class Outbox:
    cdef object _transport
    cdef public object loop
    cdef public list parts
    cdef public bint due, paused
    cdef public object on_paused, before_flush
    cpdef add(self, bytes frames)
    cpdef ask(self)
    cpdef flush(self)
