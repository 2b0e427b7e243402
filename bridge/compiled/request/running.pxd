# Types for the compiled request/running.py.

cdef object Task

cpdef start(coroutine, loop)
