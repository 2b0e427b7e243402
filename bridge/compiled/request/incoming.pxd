# The request of request.py as it lies in memory, every field in the order of the names; see fields.py.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *attempt, *body, *deadline, *fault, *first_try, *key, *ocpp_message_id, *redelivered, *reply_wanted, *source,
            *started, *station_id, *version;
    } dtbridge_Request;
    """

    ctypedef class bridge.request.incoming.Request [object dtbridge_Request, check_size error]:
        cdef object body, deadline, fault, key, ocpp_message_id, reply_wanted, source, started, station_id, version
