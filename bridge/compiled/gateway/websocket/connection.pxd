# Types for the compiled gateway/websocket/connection.py.

import cython

from bridge.telemetry cimport ticks

cdef object Answer, Forward, Settled


cdef class StationConnection:
    cdef readonly str station_id
    cdef readonly object version
    cdef object _conversation, _counts, _idle, _link, _on_answer, _on_slowed, _rate, _socket
    cdef object _traffic
    cdef set _forwards
    cdef double _call_timeout, _called_at
    cdef bint _gone, _warned
    cdef Py_ssize_t _busy

    cpdef double on_message(self, message) except? -1.0

    cdef _done(self)

    cdef _forward(self, call)

    cpdef replied(self, _Forward forward, result, double seconds)

    cpdef abandoned(self, _Forward forward)

    cdef _ended(self, _Forward forward)

    cdef _settle(self, answer)

    cpdef start_call(self, bytes payload, on_answer)

    cpdef give_up_call(self)

    cdef _called(self, answer, str outcome)

    cdef _end_call(self, str outcome)


cdef class _Forward:
    cdef double _began
    cdef StationConnection _connection
    cdef object _forwarding
    cdef bint _over
    cdef readonly str message_id

    cpdef begin(self, link, str station_id, version, bytes payload, double timeout)

    cpdef on_reply(self, result)

    cpdef abandon(self)
