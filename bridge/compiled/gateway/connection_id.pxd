# Types for the compiled gateway/connection_id.py.


cdef class ConnectionId:
    cdef object _clock, _name, _message_id
    cdef str _current
    cdef unsigned long long _number
    cdef Py_ssize_t _in_hand
    cdef double _answered_at

    cpdef begin(self, message_id)

    cpdef end(self, connection_id)
