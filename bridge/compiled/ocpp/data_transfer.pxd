# The response of data_transfer.py, to be told from others. None of its fields is read from here.

cdef extern from *:
    ctypedef class bridge.ocpp.data_transfer.DataTransferResponse [object PyObject, check_size ignore]:
        pass
