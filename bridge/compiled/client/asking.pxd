# Types for the compiled client/asking.py.

import cython
from bridge.compiled cimport fields
from bridge.telemetry.measures cimport Histogram, Tally
from bridge.transport cimport Delivery, Properties

cdef Py_ssize_t _RESPONSE, _CALL_ERROR, _OFFLINE, _NO_ANSWER, _NOT_ACCEPTED, _CANCELLED
cdef str _ERROR_TYPE, OFFLINE_TYPE

@cython.locals(properties=Properties, observed=Histogram)
cpdef count_reply(Tally tally, Delivery reply, double seconds)

cpdef count_error(Tally tally, error)

cpdef count_cancelled(Tally tally)
