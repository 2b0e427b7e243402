# Types for the compiled request/running.py.

import cython
from bridge.telemetry cimport ticks

cdef object Task
cdef bint _EAGER

cdef class _Turn:
    cdef readonly double at
    cdef readonly object loop

    cpdef begins(self)


@cython.locals(turn=_Turn)
cpdef start(coroutine, loop)

cdef class Race:
    cdef object _answer, _by, _loss, _request, _settle, _task, _time_out, _timer
    cdef set _held
    cdef readonly bint over
    cdef public bint times_handler

    cpdef follow(self, task, loop, double timeout, deadline)

    cpdef _watch(self, task, loop, double timeout, deadline)

    @cython.locals(turn=_Turn)
    cpdef _has_begun(self)

    cpdef _ended(self, task)

    cpdef lose(self)

    cpdef _end(self, outcome)

    cpdef _finish(self)
