# Types for the compiled request/counting.py.

import cython

from bridge.compiled cimport fields
from bridge.request.outcome cimport Reply

cdef object _ERROR_KIND
cdef int _ACCEPTED, _REJECTED, _UNKNOWN_MESSAGE, _UNKNOWN_VENDOR, _CALL_ERROR
cdef Py_ssize_t _STATUS, _UNKNOWN

@cython.locals(body=bytes)
cpdef int of_reply(Reply reply) except -1
