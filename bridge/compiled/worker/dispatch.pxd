# Types for the compiled worker/dispatch.py.

import cython
from bridge.compiled cimport fields
from bridge.routing.handler cimport Handler
from bridge.ocpp.data_transfer cimport DataTransferResponse
from bridge.ocpp.request cimport RequestEnvelope
from bridge.request.outcome cimport Reply
from bridge.request.incoming cimport Request
from bridge.request cimport running
from bridge.routing.router cimport Routes
from bridge.telemetry cimport ticks

cdef object Call, encode_accepted, get_running_loop, peel, _bind, _unbind
cdef Py_ssize_t LARGE

cdef class Dispatcher:
    cdef Routes _routes
    cdef public object settle
    cdef object _answer, _decode, _expired, _policy
    cdef dict _tallies
    cdef bint _handles_expired, _peels
    cdef Py_ssize_t _max_body
    cdef readonly set waiting
    cdef readonly object threads

    @cython.locals(envelope=RequestEnvelope, handler=Handler, body=bytes)
    cpdef dispatch(self, Request request)

    @cython.locals(envelope=RequestEnvelope, handler=Handler)
    cdef bint _dispatch_peeled(self, Request request) except -1

    @cython.locals(race=running.Race)
    cpdef _call(self, Request request, Handler handler, tuple arguments)

    @cython.locals(body=bytes)
    cpdef _outcome(self, Request request, Handler handler, task)
