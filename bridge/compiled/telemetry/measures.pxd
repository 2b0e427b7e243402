# Types for the compiled telemetry/measures.py.

import cython


cdef class Histogram:
    cdef readonly tuple bounds
    cdef readonly double sum
    cdef Py_ssize_t _size
    cdef double _bounds[24]
    cdef unsigned long long _counts[25]

    @cython.locals(at=Py_ssize_t)
    cpdef observe(self, double seconds)


cdef class Tally:
    cdef readonly tuple labels, kinds
    cdef readonly Histogram seconds
    cdef Py_ssize_t _size
    cdef unsigned long long _counts[25]

    cpdef count(self, Py_ssize_t kind)
