# Types for the compiled dispatch.py.

import cython
from bridge.compiled cimport fields
from bridge.routing.handler cimport Handler
from bridge.ocpp.data_transfer cimport DataTransferResponse
from bridge.ocpp.request cimport RequestEnvelope
from bridge.request.outcome cimport Reply
from bridge.request.incoming cimport Request
from bridge.request cimport running
from bridge.routing.router cimport Routes

cdef object Call, encode_accepted, get_running_loop
cdef bint EAGER

cdef class Dispatcher:
    cdef Routes _routes
    cdef object _settle, _decode, _expired, _policy, _pool
    cdef bint _handles_expired
    cdef Py_ssize_t _max_body, _threads
    cdef readonly set waiting

    @cython.locals(envelope=RequestEnvelope, handler=Handler, body=bytes)
    cpdef dispatch(self, Request request)

    cpdef _call(self, Request request, Handler handler, tuple arguments)

    @cython.locals(body=bytes)
    cpdef _outcome(self, Request request, Handler handler, task)

cdef class _Waiting:
    cdef Dispatcher _dispatcher
    cdef Request _request
    cdef Handler _handler
    cdef object _task, _timer, _loop
    cdef bint _settled

    cpdef _watch(self)

    cpdef _returned(self, task)

    cpdef _end(self)
