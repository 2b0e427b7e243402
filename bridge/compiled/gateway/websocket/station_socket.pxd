# Types for the compiled gateway/websocket/station_socket.py.

import cython

from bridge.gateway.websocket.connection cimport StationConnection
from bridge.gateway.websocket.frames cimport FrameReader
from bridge.request.wheel cimport Timed

cdef int NOTHING, TEXT, BINARY, CLOSE, PING, PONG
cdef int _OPENING, _OPEN, _CLOSING, _FAILED, _ENDED
cdef int _NO_STATION, _UNREAD, _SLOWED, _TURN


cdef class StationSocket(Timed):
    cdef object _deflate, _gateway, _handshake, _loop, _unread, _waiters
    cdef Py_ssize_t _dropped
    cdef double _heard, _next_ping, _unheard
    cdef int _holds, _state
    cdef FrameReader _reader
    cdef readonly str address, close_reason, host
    cdef readonly int close_code
    cdef readonly double opened_at
    cdef readonly object tcp, transport
    cdef public object entry, version
    cdef public StationConnection station
    cdef public str station_id
    cdef public bint told
    cdef readonly bint served

    @cython.locals(state=int)
    cpdef data_received(self, bytes data)

    @cython.locals(opcode=int, frames=int, state=int, reader=FrameReader)
    cdef _read(self)

    cdef _read_next_turn(self, FrameReader reader)

    @cython.locals(station=StationConnection, seconds=double)
    cdef _on_message(self, message)

    cdef _on_ping(self, bytes payload)

    cdef _on_close(self, int code, str reason)

    cdef _hold(self, int reason)

    @cython.locals(holds=int, state=int)
    cpdef _release(self, int reason)

    cpdef bint send(self, bytes frame) except -1

    cdef _end_unread(self)

    cdef _enter(self, int state)

    @cython.locals(state=int)
    cpdef out_of_time(self)

    @cython.locals(now=double, wake=double)
    cdef _keep_alive(self)
