# As octets.py, for the compiled modules: inlined into them, and bounded as Python's own indexing.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memcmp, memcpy

ctypedef unsigned int uint
ctypedef unsigned long long ulong


cdef inline const unsigned char* _octets(bytes data, Py_ssize_t at, Py_ssize_t size) except NULL:
    """The next `size` octets from `at`. Every number is read through here."""
    if data is None or at < 0 or size < 0 or at > PyBytes_GET_SIZE(data) - size:
        raise IndexError("beyond the end of the data")
    return <const unsigned char*> PyBytes_AS_STRING(data) + at


cdef inline uint _u16(const unsigned char* p) noexcept:
    return <uint> p[0] << 8 | p[1]


cdef inline uint _u32(const unsigned char* p) noexcept:
    return _u16(p) << 16 | _u16(p + 2)


cdef inline ulong _u64(const unsigned char* p) noexcept:
    return <ulong> _u32(p) << 32 | _u32(p + 4)


cdef inline (uint,) u16(bytes data, Py_ssize_t at) except *:
    return (_u16(_octets(data, at, 2)),)


cdef inline (uint,) u32(bytes data, Py_ssize_t at) except *:
    return (_u32(_octets(data, at, 4)),)


cdef inline (ulong,) u64(bytes data, Py_ssize_t at) except *:
    return (_u64(_octets(data, at, 8)),)


cdef inline (ulong, uint) tag_bits(bytes data, Py_ssize_t at) except *:
    cdef const unsigned char* p = _octets(data, at, 9)
    return (_u64(p), p[8])


cdef inline (uint, uint, uint) frame(bytes data, Py_ssize_t at) except *:
    cdef const unsigned char* p = _octets(data, at, 7)
    return (p[0], _u16(p + 1), _u32(p + 3))


cdef inline (uint, uint, ulong, uint) content(bytes data, Py_ssize_t at) except *:
    cdef const unsigned char* p = _octets(data, at, 14)
    return (_u16(p), _u16(p + 2), _u64(p + 4), _u16(p + 12))


cdef inline (uint, uint, uint, uint, uint, ulong, uint) content_frame(
    bytes data, Py_ssize_t at
) except *:
    cdef const unsigned char* p = _octets(data, at, 21)
    return (p[0], _u16(p + 1), _u32(p + 3), _u16(p + 7), _u16(p + 9), _u64(p + 11), _u16(p + 19))


cdef inline bytes part(bytes data, Py_ssize_t at, Py_ssize_t end):
    return PyBytes_FromStringAndSize(<const char*> _octets(data, at, end - at), end - at)


cdef inline bint same(bytes data, Py_ssize_t at, Py_ssize_t end, bytes known) except -1:
    if end - at != PyBytes_GET_SIZE(known):
        return False
    return memcmp(_octets(data, at, end - at), PyBytes_AS_STRING(known), end - at) == 0


cdef inline str text(bytes data, Py_ssize_t at, Py_ssize_t end):
    cdef const char* start = <const char*> _octets(data, at, end - at)
    return PyUnicode_DecodeUTF8(start, end - at, "surrogateescape")


cdef inline object text_or_bytes(bytes data, Py_ssize_t at, Py_ssize_t end):
    try:
        return PyUnicode_DecodeUTF8(<const char*> _octets(data, at, end - at), end - at, NULL)
    except UnicodeDecodeError:
        return part(data, at, end)


# Bytes that nobody has seen yet may still be written, so a body is put together in its own place.

cdef inline bytes room(Py_ssize_t size):
    return PyBytes_FromStringAndSize(NULL, size)


cdef inline int put(
    bytes room, Py_ssize_t at, bytes data, Py_ssize_t start, Py_ssize_t end
) except -1:
    cdef const unsigned char* pieces = _octets(data, start, end - start)
    memcpy(<unsigned char*> _octets(room, at, end - start), pieces, end - start)
    return 0


cdef inline bytes whole(bytes room):
    return room


cdef inline unsigned char* _put(unsigned char* to, bytes data) noexcept:
    memcpy(to, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return to + PyBytes_GET_SIZE(data)


cdef inline unsigned char* _put16(unsigned char* to, uint number) noexcept:
    to[0] = <unsigned char> (number >> 8)
    to[1] = <unsigned char> number
    return to + 2


cdef inline unsigned char* _put32(unsigned char* to, uint number) noexcept:
    return _put16(_put16(to, number >> 16), number)


cdef inline unsigned char* _put_frame(
    unsigned char* to, unsigned char kind, uint channel, Py_ssize_t size
) noexcept:
    to[0] = kind
    return _put32(_put16(to + 1, channel), <uint> size)


cdef inline bytes message(
    bytes method, uint channel, Py_ssize_t limit, uint flags,
    bytes before, bytes correlation_id, bytes between, bytes after, Py_ssize_t size, bytes body,
):
    # Each length is taken once, here: so much is reserved, and so much is written.
    cdef Py_ssize_t here = len(body), sent = 0, part
    cdef Py_ssize_t length = 14 + len(before) + len(between) + len(after)
    if correlation_id is not None:
        length += 1 + len(correlation_id)
    if length > limit:
        raise ValueError(f"properties of {length - 14} bytes do not fit a frame of {limit + 8}")
    cdef Py_ssize_t bodies = (here + limit - 1) // limit
    cdef bytes run = PyBytes_FromStringAndSize(NULL, len(method) + 8 + length + 8 * bodies + here)
    cdef unsigned char* to = _put(<unsigned char*> PyBytes_AS_STRING(run), method)
    to = _put32(_put_frame(to, 2, channel, length), 60 << 16)
    to = _put16(_put32(_put32(to, <uint> (<ulong> size >> 32)), <uint> size), flags)
    to = _put(to, before)
    if correlation_id is not None:
        to[0] = <unsigned char> len(correlation_id)
        to = _put(to + 1, correlation_id)
    to = _put(_put(to, between), after)
    to[0] = 0xCE
    to += 1
    while sent < here:
        part = min(limit, here - sent)
        to = _put_frame(to, 3, channel, part)
        memcpy(to, PyBytes_AS_STRING(body) + sent, part)
        to[part] = 0xCE
        to += part + 1
        sent += part
    return run
