# The commonest outcome of outcome.py as it lies in memory, every field in the order of the names; see fields.py.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *body, *kind;
    } dtbridge_Reply;
    """

    ctypedef class bridge.request.outcome.Reply [object dtbridge_Reply, check_size error]:
        cdef object body, kind
