# Types for the compiled worker/events.py.

import cython
from bridge.compiled cimport fields
from bridge.request.outcome cimport Reply
from bridge.request.incoming cimport Request

cdef object Event, Publishing, encode_event, _decode_names, _PROPERTIES, _RESPONSE
cdef int _ACCEPTED, _DROPPED, _EXPIRED, _OVERLOADED
cdef tuple KINDS
cdef bytes _STATUS, _ERROR_CODE
cdef tuple _MILLISECONDS
cdef Py_ssize_t _CODE_LENGTH, OCPP_MESSAGE_ID_MAX_LENGTH

cdef class EventRecorder:
    cdef bint _all, _bodies
    cdef object _emit, _counts
    cdef str _exchange, _worker, _until_second
    cdef dict _known, _spelled
    cdef list _others
    cdef long long _second

    cpdef settled(self, Request request, outcome, int counted)

    @cython.locals(reply=Reply, status=str, code=str, body=bytes, keys=list)
    cpdef _tell(self, Request request, outcome, int counted)

    @cython.locals(second="long long")
    cdef str _now(self)

    cdef list _keys_of(self, str vendor_id)

cdef object _rounded(double seconds)

@cython.locals(text=bytes)
cdef str _text_after(bytes start, bytes body)
