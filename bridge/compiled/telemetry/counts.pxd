# Written by `python -m bridge.compiled.views`, do not edit.
# The Structs of bridge.telemetry.counts as they lie in memory; fields.pxd checks that they do.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *absorbed;
        PyObject *dropped;
        PyObject *events_dropped;
        PyObject *failed;
        PyObject *forbidden;
        PyObject *foreign;
        PyObject *late;
        PyObject *overloaded;
        PyObject *put_off;
        PyObject *received;
        PyObject *replied;
        PyObject *retried;
        PyObject *store_errors;
        PyObject *stuck;
        PyObject *unasked;
    } dtbridge_WorkerCounts;
    """

    ctypedef class bridge.telemetry.counts.WorkerCounts [object dtbridge_WorkerCounts, check_size error]:
        cdef object absorbed
        cdef object dropped
        cdef object events_dropped
        cdef object failed
        cdef object forbidden
        cdef object foreign
        cdef object late
        cdef object overloaded
        cdef object put_off
        cdef object received
        cdef object replied
        cdef object retried
        cdef object store_errors
        cdef object stuck
        cdef object unasked
