# Types for the compiled worker/events.py.

import cython
from bridge.compiled cimport fields
from bridge.request.outcome cimport Reply
from bridge.request.incoming cimport Request

cdef object Event, Publishing, encode_event, _decode_names, _PROPERTIES, _RESPONSE
cdef str _ACCEPTED, _CALL_ERROR, _RETRIED, _LATE, _DROPPED, _ABSORBED
cdef dict _STATUSES, _REASONS
cdef bytes _STATUS, _ERROR_CODE
cdef tuple _MILLISECONDS
cdef Py_ssize_t _CODE_LENGTH, OCPP_MESSAGE_ID_MAX_LENGTH

cdef class EventRecorder:
    cdef bint _all, _bodies
    cdef object _emit, _counts
    cdef str _exchange, _worker, _until_second
    cdef dict _known, _others, _spelled
    cdef long long _second

    cpdef settled(self, Request request, outcome)

    @cython.locals(reply=Reply, kind=str, status=str, code=str, body=bytes, keys=dict)
    cpdef _tell(self, Request request, outcome)

    @cython.locals(second="long long")
    cdef str _now(self)

    cdef dict _keys_of(self, str vendor_id)

cdef object _rounded(double seconds)

@cython.locals(text=bytes)
cdef str _text_after(bytes start, bytes body)
