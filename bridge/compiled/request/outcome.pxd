# Written by `python -m bridge.compiled.views`, do not edit.
# The Structs of bridge.request.outcome as they lie in memory; fields.pxd checks that they do.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *body;
        PyObject *kind;
    } dtbridge_Reply;
    """

    ctypedef class bridge.request.outcome.Reply [object dtbridge_Reply, check_size error]:
        cdef object body
        cdef object kind
