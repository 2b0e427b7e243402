# Written by `python -m bridge.compiled.views`, do not edit.
# The Structs of bridge.routing.handler as they lie in memory; fields.pxd checks that they do.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *around;
        PyObject *data_type;
        PyObject *function;
        PyObject *is_async;
        PyObject *is_method;
        PyObject *name;
        PyObject *read_data;
        PyObject *reads_all;
        PyObject *retry;
        PyObject *scope;
        PyObject *state;
        PyObject *timeout;
    } dtbridge_Handler;
    """

    ctypedef class bridge.routing.handler.Handler [object dtbridge_Handler, check_size error]:
        cdef object around
        cdef object data_type
        cdef object function
        cdef object is_async
        cdef object is_method
        cdef object name
        cdef object read_data
        cdef object reads_all
        cdef object retry
        cdef object scope
        cdef object state
        cdef object timeout
