# Types for the compiled gateway/turns.py.

import cython


cdef class Turns:
    cdef readonly dict _taken

    @cython.locals(taken=dict, waiting=dict)
    cpdef bint take(self, key, waiter) except -1

    @cython.locals(waiting=dict)
    cpdef withdraw(self, key, waiter)

    cpdef bint is_wanted(self, key) except -1

    @cython.locals(taken=dict, waiting=dict)
    cpdef give(self, key)
