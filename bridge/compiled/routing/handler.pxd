# The handler of handler.py as it lies in memory, every field in the order of the names; see fields.py.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *data_type, *function, *is_async, *name, *read_data, *retry, *timeout;
    } dtbridge_Handler;
    """

    ctypedef class bridge.routing.handler.Handler [object dtbridge_Handler, check_size error]:
        cdef object function, is_async, name, read_data, retry, timeout
