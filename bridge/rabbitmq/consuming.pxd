# Types for the compiled lane.py. What it calls by its module, frames.encode_publish, is a call within C.

import cython
from bridge.compiled cimport fields
from bridge.rabbitmq.frames cimport reading as frames
from bridge.transport cimport Publishing, Subscription

cdef object _ACK, _CONFIRMED, LaneDelivery

cdef class Outbox:
    cdef object _transport
    cdef public object loop
    cdef public list parts
    cdef public bint due, paused
    cdef public object on_paused, before_flush
    cpdef add(self, bytes frames)
    cpdef ask(self)
    cpdef flush(self)

cdef class PublishLane:
    cdef unsigned int _channel
    cdef Py_ssize_t _frame_max
    cdef Outbox _outbox
    cdef unsigned long long _sequence, _lowest
    cdef dict _pending
    cdef set _returned
    cdef bint _closed
    cdef public object on_end, on_returned, on_refused
    @cython.locals(outbox=Outbox)
    cpdef publish(self, Publishing publishing, waiting)
    @cython.locals(number="unsigned long long", first="unsigned long long")
    cpdef on_confirm(self, unsigned long long delivery_tag, bint multiple, bint ok)

cdef class ConsumeLane:
    cdef unsigned int _channel
    cdef Outbox _outbox
    cdef public PublishLane replies
    cdef dict _subscriptions
    cdef unsigned long long _last, _floor, _ack_to
    cdef Py_ssize_t _due, _together
    cdef set _ahead, _alone
    cdef object _held
    cdef bint _closed
    cdef public bint hold, draining
    cdef public object on_end, on_settled
    @cython.locals(subscription=Subscription)
    cpdef on_deliver(self, bytes consumer_tag, unsigned long long delivery_tag, bint redelivered, str exchange, str routing_key, properties, bytes body)
    cpdef finish(self, unsigned long long tag, verdict)
    cpdef _finish_alone(self, unsigned long long tag)
    cpdef _climb(self)
    cpdef _acknowledge(self)
