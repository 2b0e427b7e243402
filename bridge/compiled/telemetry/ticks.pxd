# As ticks.py, for the compiled modules: the same clock, read without a call of Python.

from libc.time cimport time_t


cdef extern from "<time.h>" nogil:
    ctypedef int clockid_t
    clockid_t CLOCK_MONOTONIC

    struct timespec:
        time_t tv_sec
        long tv_nsec

    int clock_gettime(clockid_t clock, timespec* at)


cdef inline double now() noexcept:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return at.tv_sec + at.tv_nsec * 1e-9
