# Types for the compiled request/running.py.

cdef object Task
cdef bint _EAGER

cpdef start(coroutine, loop)

cdef class Race:
    cdef object _answer, _by, _loss, _request, _settle, _task, _time_out, _timer
    cdef set _held
    cdef readonly bint over

    cpdef follow(self, task, loop, double timeout, deadline)

    cpdef _watch(self, task, loop, double timeout, deadline)

    cpdef _ended(self, task)

    cpdef lose(self)

    cpdef _end(self, outcome)

    cpdef _finish(self)
