# Types for the compiled native.py.

import cython
from bridge.compiled cimport fields
from bridge.request.incoming cimport Request
from bridge.transport cimport Delivery, Properties, Publishing

cdef str ATTEMPT, CONNECTION_ID, CONTENT_TYPE, DEADLINE, EXPIRATION, FIRST_TRY, REQUEST_TYPE
cdef str STATION_ID, TRACE_PARENT, VERSION
cdef Py_ssize_t CONNECTION_ID_MAX_LENGTH, STATION_ID_MAX_LENGTH, _MESSAGE_ID_MAX_LENGTH
cdef object _EARLIEST, DEFAULT_VERSION, OcppVersion, milliseconds_left, _RESPONSE
cdef dict _NO_HEADERS, _NAMES, _VERSIONS

cdef class Native:
    cdef readonly object name, names, exchange, queues
    cdef object _requests, _reply_prefixes, _responses, _call_errors, _offline, _ways_back
    cdef dict _station_responses, _station_call_errors

    @cython.locals(properties=Properties, headers=dict)
    cpdef request(self, Delivery delivery)

    cpdef reply(self, Request request, body, kind)

    @cython.locals(delivery=Delivery, asked=Properties, headers=dict)
    cdef _reply(self, Request request, body, replies)

    cpdef station_reply(self, Request request, body, kind)

    @cython.locals(headers=dict)
    cpdef station_asks(
        self, correlation_id, reply_to, station_id, version, vendor_id, body, double deadline,
        message_id, connection_id
    )

@cython.locals(now=double)
cdef _request_properties(
    dict headers, delivery_mode, double deadline, message_id, correlation_id, reply_to
)
