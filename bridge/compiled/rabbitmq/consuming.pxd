# Types for the compiled rabbitmq/consuming.py.

import cython

from bridge.compiled cimport fields
from bridge.rabbitmq.outbox cimport Outbox
from bridge.rabbitmq.publishing cimport PublishLane
from bridge.transport cimport Subscription

cdef object _ACK, LaneDelivery


cdef class ConsumeLane:
    cdef unsigned int _channel
    cdef Outbox _outbox
    cdef object _on_end, _on_settled
    cdef public PublishLane replies
    cdef dict _subscriptions
    cdef unsigned long long _last, _floor, _ack_to
    cdef Py_ssize_t _due, _together
    cdef set _ahead, _alone
    cdef object _held
    cdef bint _closed
    cdef public bint hold, draining
    @cython.locals(subscription=Subscription)
    cpdef on_deliver(
        self, bytes consumer_tag, unsigned long long delivery_tag, bint redelivered,
        str exchange, str routing_key, properties, bytes body,
    )
    cpdef finish(self, unsigned long long tag, verdict)
    cpdef _finish_alone(self, unsigned long long tag)
    cpdef _climb(self)
    cpdef _acknowledge(self)
