# Types for the compiled worker/pace.py.

from bridge.telemetry cimport ticks

cdef class Pace:
    cdef double _mean, _deviation

    cpdef took(self, double seconds)


cdef class Rate:
    cdef readonly double per_second
    cdef double _interval, _slack, _full_at

    cpdef double take(self) except? -1.0
