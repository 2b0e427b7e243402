"""The headers and property values of the wire contract (``docs/contract.md``)."""

from typing import Final

# ---- what requesters write ----

STATION_ID: Final = "ocpp-station-id"
STATION_ID_MAX_LENGTH: Final = 255
"""Characters. OCPP 2.0.1 allows 48; and what a reply repeats must fit into a frame."""
VERSION: Final = "ocpp-version"
DEADLINE: Final = "ocpp-deadline"
"""int64, Unix time in milliseconds."""
CONNECTION_ID: Final = "ocpp-connection-id"
"""Tells a station's connections apart: message ids are unique for a connection only."""
CONNECTION_ID_MAX_LENGTH: Final = 255
"""Characters."""
TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"

# ---- what the bridge writes on a request that is tried again ----

ATTEMPT: Final = "dtbridge-attempt"
"""The bridge's own count of tries: RabbitMQ 4 ignores the ``x-death`` of a message that is
published again."""
FIRST_TRY: Final = "dtbridge-first-try"
"""int64, Unix time in milliseconds: when the request was handled first."""
EXPIRATION: Final = "dtbridge-expiration"
"""The request's ``expiration``, if its deadline was made from that."""
NOT_BEFORE: Final = "dtbridge-not-before"
"""int64, Unix time in milliseconds: when the pause before the next try ends."""

# ---- what the bridge writes on a dead letter ----

REASON: Final = "dtbridge-reason"
ERROR: Final = "dtbridge-error"
FAILED_AT: Final = "dtbridge-failed-at"
"""int64, Unix time in milliseconds: when the request was given up."""
VENDOR: Final = "dtbridge-vendor"
MESSAGE: Final = "dtbridge-message"
WORKER: Final = "dtbridge-worker"
EXCHANGE: Final = "dtbridge-exchange"
ROUTING_KEY: Final = "dtbridge-routing-key"
REPLAYED: Final = "dtbridge-replayed"
"""How often the request has been taken out of the dead-letter queue for another try."""

# ---- what `dtbridge topology` puts into a queue to know that it is empty ----

MARKER: Final = "dtbridge-marker"
"""Header and type of a marker. Of a command that was killed, a worker may be given one."""
MARKER_BODY: Final = b'{"dtbridge":"a marker of dtbridge topology; it can be deleted"}'

# ---- values of properties ----

CONTENT_TYPE: Final = "application/json"
REQUEST_TYPE: Final = "DataTransfer"
OFFLINE_TYPE: Final = "StationOffline"
"""The type of a reply to the CSMS: the gateway has lost the station. The body says whether the
request had been sent to it."""

TRANSIENT: Final = 1
"""Delivery mode."""
PERSISTENT: Final = 2
"""Delivery mode."""
