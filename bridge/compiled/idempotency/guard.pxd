# Types for the compiled idempotency/guard.py.

from bridge.compiled cimport fields
from bridge.request.outcome cimport Reply
from bridge.request.incoming cimport Request
from bridge.telemetry cimport ticks

cdef class Once:
    cdef readonly object store, on_absorbed, on_store_error
    cdef readonly dict followers
    cdef double _down_until
    cdef readonly set _tasks

cdef class Guard:
    cdef public object next, settle
    cdef readonly Once _once
    cdef object _ask, _forget, _store
    cdef bint _is_plain

    cpdef dispatch(self, Request request)

    cpdef settled(self, Request request, outcome)
