# Written by `python -m bridge.compiled.views`, do not edit.
# The Structs of bridge.gateway.counts as they lie in memory; fields.pxd checks that they do.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *absorbed;
        PyObject *answered;
        PyObject *failed;
        PyObject *forbidden;
        PyObject *late;
        PyObject *offline;
        PyObject *received;
        PyObject *unroutable;
    } dtbridge_LinkCounts;
    """

    ctypedef class bridge.gateway.counts.LinkCounts [object dtbridge_LinkCounts, check_size error]:
        cdef object absorbed
        cdef object answered
        cdef object failed
        cdef object forbidden
        cdef object late
        cdef object offline
        cdef object received
        cdef object unroutable
