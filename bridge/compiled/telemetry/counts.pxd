# The counts of counts.py as they lie in memory, every field in the order of the names; see fields.py.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *absorbed, *dropped, *failed, *forbidden, *foreign, *late, *overloaded, *put_off, *received, *replied, *retried,
            *store_errors, *unasked;
    } dtbridge_WorkerCounts;
    """

    ctypedef class bridge.telemetry.counts.WorkerCounts [object dtbridge_WorkerCounts, check_size error]:
        cdef object dropped, failed, forbidden, late, overloaded, received, replied, retried, unasked
