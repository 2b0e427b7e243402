# Written by `python -m bridge.compiled.views`, do not edit.
# The Structs of bridge.ocpp.data_transfer as they lie in memory; fields.pxd checks that they do.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *custom_data;
        PyObject *data;
        PyObject *status;
        PyObject *status_info;
    } dtbridge_DataTransferResponse;
    """

    ctypedef class bridge.ocpp.data_transfer.DataTransferResponse [object dtbridge_DataTransferResponse, check_size error]:
        cdef object custom_data
        cdef object data
        cdef object status
        cdef object status_info
