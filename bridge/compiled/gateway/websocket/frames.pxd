# Types for the compiled gateway/websocket/frames.py. A number that a frame states is compared with
# its bounds before anything is added to it.

import cython

cdef int _FIN, _RSV, _RSV1, _OPCODE, _MASKED, _LENGTH, _SHORT, _TWO, _EIGHT, _CONTROL, _KEY
cdef int NOTHING, CONTINUATION, TEXT, BINARY, CLOSE, PONG, NO_STATUS
cdef object BrokenFrame, CloseCode, Frame, Opcode, apply_mask


@cython.final
cdef class FrameReader:
    cdef Py_ssize_t _at, _max, _needed
    cdef int _empty, _opcode
    cdef bint _compressed
    cdef bytes _data
    cdef object _deflate
    cdef bytearray _fragments, _part
    cdef readonly object message
    cdef readonly bytes payload
    cdef readonly int code
    cdef public bint dropping

    @cython.locals(part=bytearray)
    cpdef feed(self, bytes data)

    @cython.locals(
        data=bytes, at=Py_ssize_t, left=Py_ssize_t, first=int, second=int, opcode=int,
        size=Py_ssize_t, start=Py_ssize_t, key=Py_ssize_t, payload=bytes, kind=int,
    )
    cpdef int read(self) except -2

    cdef int _wait(self, Py_ssize_t left, Py_ssize_t needed) except -2

    @cython.locals(reserved=int)
    cdef _check_head(self, int first, int second, int opcode, Py_ssize_t size)

    cdef Py_ssize_t _check_size(self, unsigned long long size) except -1

    @cython.locals(fragments=bytearray)
    cdef _check_room(self, Py_ssize_t size)

    cdef _too_big(self)

    @cython.locals(code=int)
    cdef _read_close(self, bytes payload)

    @cython.locals(whole=bint, kind=int)
    cdef int _take(self, int first, int opcode, bytes payload) except -2

    @cython.locals(fragments=bytearray)
    cdef _add(self, int first, int opcode, bytes payload)

    cdef bytes _inflate(self, int first, int opcode, bytes payload, Py_ssize_t room)

    cdef int _finish(self, int kind, bytes message) except -2


cdef str _text(bytes data)

cpdef bytes control_frame(int opcode, bytes payload=*)

cpdef bytes close_frame(int code, str reason=*)

@cython.locals(size=Py_ssize_t)
cpdef bytes text_frame(bytes payload, deflate=*)
