# Types for the compiled client/requester.py.

import cython
from bridge.compiled cimport fields
from bridge.request.wheel cimport Timed
from bridge.telemetry cimport ticks
from bridge.transport cimport Delivery, Properties

cdef str OFFLINE_TYPE, STATION_ID
cdef object _CONFIRMED, _RETURNED, read_offline


cdef class Outstanding(Timed):
    cdef readonly object station_id, nobody
    cdef readonly double seconds
    cdef readonly bint once, patient
    cdef public object correlation_id, again
    cdef public Requester requester
    cdef public Py_ssize_t refusals
    cdef public bint published, unrouted, reported_lost

    cpdef publishing(self, correlation_id, reply_to)

    cpdef answered(self, Delivery delivery)

    cpdef failed(self, error)

    @cython.locals(requester=Requester)
    cpdef out_of_time(self)

    @cython.locals(requester=Requester)
    cpdef confirmed(self, confirm)


cdef class _Awaited(Outstanding):
    cdef object _answer, _publishing

    cpdef publishing(self, correlation_id, reply_to)

    cpdef answered(self, Delivery delivery)

    cpdef failed(self, error)


cdef class Requester:
    cdef object _transport, _asking, _dialect, _read_reply, _reply_queue, _prefix, _numbers, _idle
    cdef bint _overhears, _awaits_idle
    cdef readonly dict outstanding
    cdef readonly Py_ssize_t late

    cpdef start(self, Outstanding asked)

    cpdef withdraw(self, Outstanding asked)

    cpdef fail(self, Outstanding asked, error)

    cpdef _publish(self, Outstanding asked)

    cpdef not_confirmed(self, Outstanding asked, confirm)

    cdef _unrouted(self, Outstanding asked)

    cdef _refused(self, Outstanding asked)

    cdef _publish_again_in(self, double seconds, Outstanding asked)

    @cython.locals(reply=Delivery)
    cpdef _on_delivery(self, Delivery delivery)

    cdef _is_ours(self, Delivery reply)

    @cython.locals(asked=Outstanding, properties=Properties)
    cdef _on_reply(self, Delivery delivery)


@cython.locals(headers=dict)
cdef bint _about_another(Properties properties, station_id) except -1
