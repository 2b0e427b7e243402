# Types for the compiled gateway/websocket/conversation.py.

cdef class Conversation:
    cdef readonly object version
    cdef str _asked, _name, _station_id
    cdef object _on_boot
    cdef dict _handled
    cdef long long _heartbeat, _max_payload, _number

    cpdef receive(self, message, now)

    cdef _on_broken(self, error)

    cdef _fault_of(self, result)

    cdef _on_call(self, call, now)

    cdef _on_data_transfer(self, call)

    cdef _refuse(self, call, error)

    cdef _on_answer(self, str message_id, reply, fault=*)

    cpdef bytes reply(self, str message_id, reply)

    cpdef bytes call(self, bytes payload)

    cpdef give_up(self)

    cdef _checked(self, bytes payload)
