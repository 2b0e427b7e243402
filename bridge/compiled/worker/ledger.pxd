# Types for the compiled worker/ledger.py.

import cython
from bridge.compiled cimport fields
from bridge.request.incoming cimport Request
from bridge.telemetry cimport ticks
from bridge.telemetry.measures cimport Histogram, Tally
from bridge.transport cimport Delivery, Properties

cdef int _ANSWERED

cdef class Ledger:
    cdef readonly str vendor
    cdef readonly Tally tally
    cdef readonly Histogram answers, lag
    cdef readonly unsigned long long received, redelivered
    cdef readonly dict dead, unsent
    cdef bint _counts

    @cython.locals(delivery=Delivery, properties=Properties)
    cpdef arrived(self, Request request)

    @cython.locals(seconds=double)
    cdef _arrived_after(self, Request request, Properties properties, object timestamp)

    @cython.locals(tally=Tally, arrived=double, begun=double, ended=double)
    cpdef settled(self, Request request, int counted)
