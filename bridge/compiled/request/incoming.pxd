# Written by `python -m bridge.compiled.views`, do not edit.
# The Structs of bridge.request.incoming as they lie in memory; fields.pxd checks that they do.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *arrived;
        PyObject *attempt;
        PyObject *body;
        PyObject *deadline;
        PyObject *fault;
        PyObject *first_try;
        PyObject *key;
        PyObject *ocpp_message_id;
        PyObject *origin;
        PyObject *redelivered;
        PyObject *reply_wanted;
        PyObject *source;
        PyObject *started;
        PyObject *station_id;
        PyObject *told_apart;
        PyObject *version;
    } dtbridge_Request;
    """

    ctypedef class bridge.request.incoming.Request [object dtbridge_Request, check_size error]:
        cdef object arrived
        cdef object attempt
        cdef object body
        cdef object deadline
        cdef object fault
        cdef object first_try
        cdef object key
        cdef object ocpp_message_id
        cdef object origin
        cdef object redelivered
        cdef object reply_wanted
        cdef object source
        cdef object started
        cdef object station_id
        cdef object told_apart
        cdef object version
