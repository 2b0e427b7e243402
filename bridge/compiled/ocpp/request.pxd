# The envelope of request.py as it lies in memory, every field in the order of the names; see fields.py.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *custom_data, *data, *message_id, *vendor_id;
    } dtbridge_RequestEnvelope;
    """

    ctypedef class bridge.ocpp.request.RequestEnvelope [object dtbridge_RequestEnvelope, check_size error]:
        cdef object data, message_id, vendor_id
