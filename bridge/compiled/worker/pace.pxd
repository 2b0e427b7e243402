# Types for the compiled worker/pace.py.

cdef class Pace:
    cdef double _mean, _deviation

    cpdef took(self, double seconds)
