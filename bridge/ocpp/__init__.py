"""DataTransfer in every version of OCPP: pure values, bytes in and bytes out, no I/O.

versions       OcppVersion
data_transfer  the request, the response, its status and status info
request        bytes → RequestEnvelope → DataTransferRequest → bytes
response       DataTransferResponse ↔ bytes
codes, errors  the error codes; CallError ↔ bytes
rpc            OCPP-J frames ↔ bytes
feature        DataTransfer as a feature, and its profile
handlers       what the two ends implement
wire, faults   `data` and customData as JSON; what msgspec reports, in OCPP's words

The functions that read bytes raise CallError or FrameError for invalid input. Those that write
check against the schema of the version, and say in their docstrings what they raise.
"""

from bridge.ocpp.codes import ErrorCode, error_codes
from bridge.ocpp.data_transfer import (
    DataTransferRequest,
    DataTransferResponse,
    DataTransferStatus,
    StatusInfo,
)
from bridge.ocpp.errors import CallError, decode_call_error, encode_call_error
from bridge.ocpp.feature import FEATURE_NAME, PROFILE, DataTransferFeature, Feature, Profile
from bridge.ocpp.handlers import ChargingStationHandler, CSMSHandler
from bridge.ocpp.request import LARGE, RequestEnvelope, decode_request, encode_request, peel
from bridge.ocpp.response import (
    ACCEPTED,
    REJECTED,
    UNKNOWN_MESSAGE,
    UNKNOWN_VENDOR,
    InvalidResponse,
    decode_response,
    encode_accepted,
    encode_response,
    rejected,
)
from bridge.ocpp.rpc import (
    CallErrorFrame,
    CallFrame,
    CallResultErrorFrame,
    CallResultFrame,
    Frame,
    FrameError,
    SendFrame,
    call_error_frame,
    decode_frame,
    encode_frame,
)
from bridge.ocpp.versions import DEFAULT_VERSION, OcppVersion, parse_version

__all__ = [
    "ACCEPTED",
    "DEFAULT_VERSION",
    "FEATURE_NAME",
    "LARGE",
    "PROFILE",
    "REJECTED",
    "UNKNOWN_MESSAGE",
    "UNKNOWN_VENDOR",
    "CSMSHandler",
    "CallError",
    "CallErrorFrame",
    "CallFrame",
    "CallResultErrorFrame",
    "CallResultFrame",
    "ChargingStationHandler",
    "DataTransferFeature",
    "DataTransferRequest",
    "DataTransferResponse",
    "DataTransferStatus",
    "ErrorCode",
    "Feature",
    "Frame",
    "FrameError",
    "InvalidResponse",
    "OcppVersion",
    "Profile",
    "RequestEnvelope",
    "SendFrame",
    "StatusInfo",
    "call_error_frame",
    "decode_call_error",
    "decode_frame",
    "decode_request",
    "decode_response",
    "encode_accepted",
    "encode_call_error",
    "encode_frame",
    "encode_request",
    "encode_response",
    "error_codes",
    "parse_version",
    "peel",
    "rejected",
]
