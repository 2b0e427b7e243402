# Types for the compiled gateway/intake.py.

import cython
from bridge.compiled cimport fields
from bridge.gateway.counts cimport LinkCounts
from bridge.request.incoming cimport Request
from bridge.request.outcome cimport Reply
from bridge.telemetry cimport ticks
from bridge.telemetry.measures cimport Histogram, Tally
from bridge.transport cimport Delivery, Properties

cdef object _ACK, _CONFIRMED, _CALL_ERROR_KIND
cdef int _RESPONSE, _CALL_ERROR, _OFFLINE, _ABSORBED, _FAILED, _TIMED_OUT, _OVERLOADED, _LATE

cdef class StationIntake:
    cdef public object next
    cdef object _dialect, _read, _transport, _forbidden, _failures, _unasked
    cdef LinkCounts _counts
    cdef Tally _tally
    cdef list _unsent
    cdef set _pauses
    cdef dict _leaving

    @cython.locals(request=Request, properties=Properties)
    cpdef on_delivery(self, Delivery delivery)

    cpdef settled(self, Request request, outcome)

    @cython.locals(arrived=double)
    cdef _count_reply(self, Request request, Reply reply)

    cdef _answer(self, Request request, outcome, list later=*)

    cdef _send(self, _Answer answer)

    @cython.locals(reply=Reply)
    cdef _publishing(self, _Answer answer)

    cpdef not_confirmed(self, _Answer answer, confirm)

    cdef _replace(self, _Answer answer)

    cdef _send_if_in_time(self, _Answer answer)


cdef class _Answer:
    cdef StationIntake _intake
    cdef Request request
    cdef object outcome
    cdef int refusals
    cdef bint is_replaced

    cpdef confirmed(self, confirm)
