# Types for the compiled routing/router.py.

cdef class Routes:
    cdef readonly tuple routers
    cdef dict _by_vendor
    cdef readonly dict _remembered
    cdef readonly object binding

    cpdef resolve(self, vendor_id, message_id)
