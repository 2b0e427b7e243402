# Types for the compiled gateway/forwarding.py.

import cython
from bridge.client.asking cimport count_cancelled, count_error, count_reply
from bridge.client.requester cimport Outstanding, Requester
from bridge.compiled cimport fields
from bridge.dialects.native cimport Native
from bridge.gateway.connection_id cimport ConnectionId
from bridge.gateway.turns cimport Turns
from bridge.request.wheel cimport Wheel
from bridge.telemetry cimport ticks
from bridge.telemetry.measures cimport Tally
from bridge.transport cimport Delivery

cdef Py_ssize_t _MOST
cdef object CallError, check_message_id, read_reply


cdef class Forwarding(Outstanding):
    cdef readonly object version, vendor_id, message_id, connection_id
    cdef readonly bytes body
    cdef Forwards _up
    cdef ConnectionId _names
    cdef object _on_reply
    cdef double _began, _deadline
    cdef bint _has_turn

    @cython.locals(up=Forwards, names=ConnectionId, wheel=Wheel)
    cpdef begin(self)

    cpdef bint on_turn(self) except -1

    cpdef ask(self)

    cpdef publishing(self, correlation_id, reply_to)

    cpdef answered(self, Delivery delivery)

    cpdef failed(self, error)

    cpdef out_of_time(self)

    @cython.locals(turns=Turns, had_turn=bint)
    cpdef abandon(self)

    cpdef end(self, result)

    @cython.locals(names=ConnectionId, wheel=Wheel)
    cdef _over(self)


cdef class Forwards:
    cdef object _make, _stations
    cdef double _timeout
    cdef readonly Native dialect
    cdef readonly Requester requester
    cdef readonly Tally tally
    cdef readonly Turns turns
    cdef public Wheel wheel

    cpdef ConnectionId connection(self, station_id)

    @cython.locals(forwarding=Forwarding)
    cpdef start(
        self, station_id, version, vendor_id, body, message_id, timeout, connection_id, on_reply
    )
