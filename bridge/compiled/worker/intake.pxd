# Types for the compiled worker/intake.py.

import cython
from bridge.compiled cimport fields
from bridge.telemetry.counts cimport WorkerCounts
from bridge.request.outcome cimport Reply
from bridge.request cimport counting
from bridge.request.incoming cimport Request
from bridge.worker.ledger cimport Ledger
from bridge.worker.pace cimport Pace

cdef object _ACK
cdef int _ABSORBED
cdef Py_ssize_t LARGE

cdef class Intake:
    cdef readonly str queue
    cdef readonly Py_ssize_t prefetch
    cdef public object next
    cdef object _dialect, _read, _make_reply, _lacks, _waiting, _delayed, _forbidden, _failures
    cdef readonly object _room
    cdef readonly object _told
    cdef readonly WorkerCounts _counts
    cdef Pace _pace
    cdef readonly Ledger ledger
    cdef Py_ssize_t _busy, _concurrency
    cdef public Py_ssize_t _running
    cdef bint _starting
    cdef str _worker

    @cython.locals(request=Request)
    cpdef on_delivery(self, delivery)

    cpdef take(self, Request request)

    cpdef _begin_if_in_time(self, Request request)

    @cython.locals(reply=Reply, counted=int)
    cpdef settled(self, Request request, outcome)

    cpdef _reply(self, Request request, body, kind)
