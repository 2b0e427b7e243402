# Written by `python -m bridge.compiled.views`, do not edit.
# The Structs of bridge.transport as they lie in memory; fields.pxd checks that they do.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        PyObject *body;
        PyObject *exchange;
        PyObject *properties;
        PyObject *redelivered;
        PyObject *routing_key;
    } dtbridge_Delivery;

    typedef struct {
        PyObject_HEAD
        PyObject *app_id;
        PyObject *content_encoding;
        PyObject *content_type;
        PyObject *correlation_id;
        PyObject *delivery_mode;
        PyObject *expiration;
        PyObject *headers;
        PyObject *message_id;
        PyObject *priority;
        PyObject *reply_to;
        PyObject *timestamp;
        PyObject *type;
        PyObject *user_id;
    } dtbridge_Properties;

    typedef struct {
        PyObject_HEAD
        PyObject *body;
        PyObject *correlation_id;
        PyObject *exchange;
        PyObject *expiration;
        PyObject *mandatory;
        PyObject *properties;
        PyObject *routing_key;
    } dtbridge_Publishing;

    typedef struct {
        PyObject_HEAD
        PyObject *bindings;
        PyObject *exchange;
        PyObject *in_order;
        PyObject *max_length;
        PyObject *no_ack;
        PyObject *on_delivery;
        PyObject *on_impossible;
        PyObject *prefetch;
        PyObject *priority;
        PyObject *queue;
        PyObject *queues;
        PyObject *waits;
    } dtbridge_Subscription;
    """

    ctypedef class bridge.transport.Delivery [object dtbridge_Delivery, check_size error]:
        cdef object body
        cdef object exchange
        cdef object properties
        cdef object redelivered
        cdef object routing_key

    ctypedef class bridge.transport.Properties [object dtbridge_Properties, check_size error]:
        cdef object app_id
        cdef object content_encoding
        cdef object content_type
        cdef object correlation_id
        cdef object delivery_mode
        cdef object expiration
        cdef object headers
        cdef object message_id
        cdef object priority
        cdef object reply_to
        cdef object timestamp
        cdef object type
        cdef object user_id

    ctypedef class bridge.transport.Publishing [object dtbridge_Publishing, check_size error]:
        cdef object body
        cdef object correlation_id
        cdef object exchange
        cdef object expiration
        cdef object mandatory
        cdef object properties
        cdef object routing_key

    ctypedef class bridge.transport.Subscription [object dtbridge_Subscription, check_size error]:
        cdef object bindings
        cdef object exchange
        cdef object in_order
        cdef object max_length
        cdef object no_ack
        cdef object on_delivery
        cdef object on_impossible
        cdef object prefetch
        cdef object priority
        cdef object queue
        cdef object queues
        cdef object waits
