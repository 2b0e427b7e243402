# Types for the compiled idempotency/memory.py.

import cython
from bridge.compiled cimport fields
from bridge.request.outcome cimport Reply

cdef object _HERE

cdef class MemoryStore:
    cdef object _clock
    cdef double _ttl, _grown_up_at
    cdef Py_ssize_t _entries, _max_bytes, _bytes
    cdef readonly dict _young, _old

    @cython.locals(young=dict, known=Py_ssize_t)
    cpdef begin(self, key)

    cpdef finish(self, key, Reply reply)

    cpdef forget(self, key)
