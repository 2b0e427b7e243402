# Types for the compiled gateway/stations.py.

import cython
from bridge.compiled cimport fields
from bridge.request.incoming cimport Request
from bridge.request.outcome cimport Reply
from bridge.request.wheel cimport Timed, Wheel

cdef object _bind, _unbind, Facts, copy_context, payload_for

cdef class Station:
    cdef readonly object answer, callbacks, connection_id, handler, station_id, version
    cdef readonly Py_ssize_t in_hand
    cdef readonly _Call in_turn
    cdef readonly list waiting

    @cython.locals(call=_Call)
    cpdef give_turn(self)


cdef class Stations:
    cdef public object settle
    cdef double _timeout
    cdef dict _connected
    cdef readonly Py_ssize_t in_hand
    cdef Wheel _wheel

    @cython.locals(now=double, left=double, station=Station)
    cpdef dispatch(self, Request request)

    @cython.locals(call=_Call, wheel=Wheel)
    cdef _call(self, Request request, Station station, payload, double seconds)

    cpdef ended(self, _Call call, outcome)


cdef class _Call(Timed):
    cdef Stations stations
    cdef Station station
    cdef Request request
    cdef object context, payload
    cdef bint over

    cpdef begin(self)

    cpdef give_up(self)

    cpdef look(self)

    cdef begin_in_time(self)

    cdef end(self, outcome)

    @cython.locals(request=Request, reply=Reply)
    cpdef outcome_of(self, answer)

    cpdef look_again(self, int turns)

    cpdef lose(self)


cdef class _CallbackCall(_Call):
    cdef object _handler

    cpdef answered(self, answer)


cdef class _TaskCall(_Call):
    cdef double _until
    cdef object _task

    cpdef _ended(self, task)


cdef _payload_of(Request request)

@cython.locals(call=_Call)
cdef _lose(Station station)
