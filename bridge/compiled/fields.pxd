# What fields.py is in a compiled module.

from cpython.object cimport PyObject


cdef extern from *:
    """
    #include <structmember.h> /* PyMemberDef, before CPython 3.12 */

    static Py_ssize_t dtbridge_offset_of(PyObject *type, PyObject *field) {
        PyObject *slot = PyObject_GetAttr(type, field);
        Py_ssize_t offset = -1;
        if (slot == NULL)
            PyErr_Clear();
        else if (Py_IS_TYPE(slot, &PyMemberDescr_Type))
            offset = ((PyMemberDescrObject *)slot)->d_member->offset;
        Py_XDECREF(slot);
        return offset;
    }
    """
    Py_ssize_t dtbridge_offset_of(object type, object field)


cdef inline check(tuple structs):
    """The order is the one that views.py writes: all fields by their names."""
    for struct in structs:
        for index, name in enumerate(sorted(struct.__struct_fields__)):
            if dtbridge_offset_of(struct, name) != <Py_ssize_t> (sizeof(PyObject) + index * sizeof(PyObject*)):
                raise ImportError(f"{struct.__name__}.{name} does not lie where this was compiled for")
