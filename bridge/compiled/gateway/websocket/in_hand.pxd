# Types for the compiled gateway/websocket/in_hand.py.

import cython


cdef class BytesInHand:
    cdef long long _all, _most
    cdef dict _by_address

    cpdef bint take(self, address, long long size) except -1

    cpdef give_back(self, address, long long size)


cdef class BoundedLink:
    cdef object _link, _address, _notices
    cdef BytesInHand _in_hand
    cdef long long _most, _own

    cpdef bint take(self, long long size) except -1

    cpdef give_back(self, long long size)

    cdef _busy(self, station_id, version, long long size)


cdef class _Held:
    cdef public object forwarding, on_reply
    cdef public long long size
    cdef BoundedLink _link

    cpdef told(self, result)

    cpdef abandon(self)

    cdef _over(self)
