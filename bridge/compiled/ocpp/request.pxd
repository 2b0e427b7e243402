# Written by `python -m bridge.compiled.views`, do not edit.
# The Structs of bridge.ocpp.request as they lie in memory; fields.pxd checks that they do.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *custom_data;
        PyObject *data;
        PyObject *message_id;
        PyObject *vendor_id;
    } dtbridge_RequestEnvelope;
    """

    ctypedef class bridge.ocpp.request.RequestEnvelope [object dtbridge_RequestEnvelope, check_size error]:
        cdef object custom_data
        cdef object data
        cdef object message_id
        cdef object vendor_id
