# Types for the compiled request/wheel.py.

import cython

cdef class Timed:
    cdef public dict slot

    cpdef out_of_time(self)


cdef class Wheel:
    cdef object _loop, _timer
    cdef double _tick
    cdef dict _slots
    cdef long long _due
    cdef Py_ssize_t _waiting

    @cython.locals(now=double, number="long long", slot=dict)
    cpdef add(self, Timed timed, double seconds)

    @cython.locals(slot=dict)
    cpdef remove(self, Timed timed)

    cpdef close(self)

    cpdef _turn(self)

    @cython.locals(timed=Timed)
    cdef _tell(self, dict slot)
