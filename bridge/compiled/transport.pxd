# The values of transport.py as they lie in memory, every field in the order of the names; see fields.py.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *app_id, *content_encoding, *content_type, *correlation_id, *delivery_mode, *expiration, *headers, *message_id,
            *priority, *reply_to, *timestamp, *type, *user_id;
    } dtbridge_Properties;

    typedef struct {
        PyObject_HEAD
        PyObject *body, *correlation_id, *exchange, *expiration, *mandatory, *properties, *routing_key;
    } dtbridge_Publishing;

    typedef struct {
        PyObject_HEAD
        PyObject *body, *exchange, *properties, *redelivered, *routing_key;
    } dtbridge_Delivery;

    typedef struct {
        PyObject_HEAD
        PyObject *bindings, *exchange, *no_ack, *on_delivery, *prefetch, *queue, *queues, *waits;
    } dtbridge_Subscription;
    """

    ctypedef class bridge.transport.Properties [object dtbridge_Properties, check_size error]:
        cdef object correlation_id, expiration, headers, message_id, reply_to

    ctypedef class bridge.transport.Publishing [object dtbridge_Publishing, check_size error]:
        cdef object body, correlation_id, exchange, expiration, mandatory, properties, routing_key

    ctypedef class bridge.transport.Delivery [object dtbridge_Delivery, check_size error]:
        cdef object body, properties, redelivered

    ctypedef class bridge.transport.Subscription [object dtbridge_Subscription, check_size error]:
        cdef object no_ack, on_delivery
