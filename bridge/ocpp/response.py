"""DataTransferResponse on the wire: to bytes in the bridge, from bytes where it was asked for."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bridge.ocpp.codes import ErrorCode
from bridge.ocpp.data_transfer import DataTransferResponse, DataTransferStatus, StatusInfo
from bridge.ocpp.errors import CallError, encodable
from bridge.ocpp.faults import DECODE_FAULTS, ENCODE_FAULTS
from bridge.ocpp.versions import OcppVersion
from bridge.ocpp.wire import (
    FORBIDS_UNKNOWN_FIELDS,
    HAS_CUSTOM_DATA,
    check_custom_data,
    check_text_data,
    data_json,
    decode_data,
    encode_json,
)

REASON_CODE_MAX_LENGTH = 20
"""The most characters of a reasonCode (OCPP 2.0.1 StatusInfoType)."""

UNSPECIFIED = "Unspecified"
"""The reasonCode of a rejection that gives additionalInfo only. The field is required (OCPP 2.0.1
Appendix 5)."""

_ADDITIONAL_INFO_MAX_LENGTH: dict[str, int] = {OcppVersion.V2_0_1: 512, OcppVersion.V2_1: 1024}
"""The most characters of an additionalInfo (StatusInfoType)."""

ACCEPTED = b'{"status":"Accepted"}'
"""The payload that accepts without data."""

REJECTED = b'{"status":"Rejected"}'
"""The payload that rejects without statusInfo."""

UNKNOWN_VENDOR = b'{"status":"UnknownVendorId"}'
"""The payload that answers a vendorId without an implementation. It has no data (OCPP 1.6 §4.3,
OCPP 2.0.1 P02.FR.06)."""

UNKNOWN_MESSAGE = b'{"status":"UnknownMessageId"}'
"""The payload that answers an unknown messageId of a known vendor. It has no data."""


class InvalidResponse(ValueError):
    """A DataTransferResponse that cannot be sent. The text names the field that does not fit.

    It is the fault of the code that made the response, not of the peer.
    """


class _StatusInfo(Struct, rename="camel"):
    """A received StatusInfo. The versions differ in the length of additionalInfo."""

    reason_code: Annotated[str, Meta(max_length=REASON_CODE_MAX_LENGTH)]
    additional_info: str | UnsetType = UNSET
    custom_data: Raw | UnsetType = UNSET


class _StatusInfo201(_StatusInfo, rename="camel"):
    additional_info: Annotated[str, Meta(max_length=512)] | UnsetType = UNSET


class _StatusInfo21(_StatusInfo, rename="camel"):
    additional_info: Annotated[str, Meta(max_length=1024)] | UnsetType = UNSET


class _ClosedStatusInfo201(_StatusInfo201, rename="camel", forbid_unknown_fields=True):
    pass


class _ClosedStatusInfo21(_StatusInfo21, rename="camel", forbid_unknown_fields=True):
    pass


class _Envelope(Struct, rename="camel"):
    """A received DataTransferResponse; its data, statusInfo and customData are still JSON."""

    status: DataTransferStatus
    data: Raw | UnsetType = UNSET
    status_info: Raw | UnsetType = UNSET
    custom_data: Raw | UnsetType = UNSET


class _ClosedEnvelope(_Envelope, rename="camel", forbid_unknown_fields=True):
    """For the versions whose schema forbids unknown fields."""


_LENIENT = msgspec.json.Decoder(_Envelope)
_CLOSED = msgspec.json.Decoder(_ClosedEnvelope)
_STATUS_INFO: dict[tuple[str, bool], msgspec.json.Decoder[_StatusInfo]] = {
    (OcppVersion.V2_0_1, False): msgspec.json.Decoder(_StatusInfo201),
    (OcppVersion.V2_0_1, True): msgspec.json.Decoder(_ClosedStatusInfo201),
    (OcppVersion.V2_1, False): msgspec.json.Decoder(_StatusInfo21),
    (OcppVersion.V2_1, True): msgspec.json.Decoder(_ClosedStatusInfo21),
}


def decode_response(
    payload: bytes | Raw, version: OcppVersion, *, strict: bool = False
) -> DataTransferResponse:
    """The response in `payload`, its data decoded. Integers of any size are exact.

    By default it is read leniently: unknown fields are ignored, as are statusInfo and customData in
    versions without them, and `data` may be any JSON value. With `strict`, the payload must match
    the schema of `version`. Raises CallError, with the error code for the kind of fault and a
    description that names the field.
    """
    decoder = _CLOSED if strict and version in FORBIDS_UNKNOWN_FIELDS else _LENIENT
    try:
        envelope = decoder.decode(payload)
    except DECODE_FAULTS as fault:
        raise CallError.from_fault(fault) from fault
    if version not in HAS_CUSTOM_DATA:
        _leave_out_newer_fields(envelope, strict=strict)
    if strict and version == OcppVersion.V1_6 and envelope.data is not UNSET:
        check_text_data(envelope.data)
    return DataTransferResponse(
        envelope.status,
        decode_data(envelope.data),
        _read_status_info(envelope.status_info, version, strict=strict),
        _read_custom_data(envelope.custom_data, "customData"),
    )


def _leave_out_newer_fields(envelope: _Envelope, *, strict: bool) -> None:
    for field, part in (("statusInfo", envelope.status_info), ("customData", envelope.custom_data)):
        if strict and part is not UNSET:
            raise CallError(ErrorCode.FORMAT_VIOLATION, f"{field}: unknown field")
    envelope.status_info = UNSET
    envelope.custom_data = UNSET


def _read_status_info(
    raw: Raw | UnsetType, version: OcppVersion, *, strict: bool
) -> StatusInfo | None:
    if raw is UNSET:
        return None
    try:
        info = _STATUS_INFO[version, strict].decode(raw)
    except DECODE_FAULTS as fault:
        raise CallError.from_fault(fault, "statusInfo") from fault
    additional_info = None if info.additional_info is UNSET else info.additional_info
    return StatusInfo(
        info.reason_code,
        additional_info,
        _read_custom_data(info.custom_data, "statusInfo.customData"),
    )


def _read_custom_data(raw: Raw | UnsetType, field: str) -> dict[str, Any] | None:
    if raw is UNSET:
        return None
    check_custom_data(raw, field)
    custom_data: dict[str, Any] = decode_data(raw, field)
    return custom_data


def encode_response(response: DataTransferResponse, version: OcppVersion) -> bytes:
    """The payload of `response`, valid by the schema of `version`.

    statusInfo and customData are left out in 1.6 and 2.0, which do not have them. Data is written
    as by `encode_request`. Raises InvalidResponse, naming the field, for a value that does not fit.
    """
    status: Any = response.status
    if not isinstance(status, DataTransferStatus):
        known = ", ".join(DataTransferStatus)
        raise InvalidResponse(f"status: expected one of {known}, got {status!r:.60}")
    parts: dict[str, object] = {"status": status}
    try:
        data = data_json(response.data, version)
    except ENCODE_FAULTS as fault:
        raise InvalidResponse(f"data: {fault}") from fault
    if data is not None:
        parts["data"] = Raw(data)
    if version in HAS_CUSTOM_DATA:
        _write_newer_fields(response, version, parts)
    return encode_json(parts)


def _write_newer_fields(
    response: DataTransferResponse, version: OcppVersion, parts: dict[str, object]
) -> None:
    try:
        if response.status_info is not None:
            parts["statusInfo"] = status_info = _part(response.status_info, "statusInfo")
            _read_status_info(status_info, version, strict=True)
        if response.custom_data is not None:
            parts["customData"] = custom_data = _part(response.custom_data, "customData")
            check_custom_data(custom_data)
    except CallError as error:
        raise InvalidResponse(error.description) from error


def _part(value: object, field: str) -> Raw:
    try:
        return Raw(encode_json(value))
    except ENCODE_FAULTS as fault:
        raise InvalidResponse(f"{field}: {fault}") from fault


def encode_accepted(data: Any, version: OcppVersion) -> bytes:
    """The payload that accepts with `data`, or without data if that is UNSET or None.

    This is on the hot path of a worker. Raises InvalidResponse if `data` has no form in JSON.
    """
    if data is None:
        return ACCEPTED
    try:
        encoded = data_json(data, version)
    except ENCODE_FAULTS as fault:
        raise InvalidResponse(f"data: {fault}") from fault
    return ACCEPTED if encoded is None else b'{"status":"Accepted","data":%b}' % encoded


def rejected(reason_code: str | None, additional_info: str | None, version: OcppVersion) -> bytes:
    """The payload that rejects.

    It has statusInfo if `version` has it and a reason code or additional info is given. Both texts
    are cut to the limits of the version. Never raises.
    """
    if version not in HAS_CUSTOM_DATA or (not reason_code and not additional_info):
        return REJECTED
    info = StatusInfo(encodable((reason_code or UNSPECIFIED)[:REASON_CODE_MAX_LENGTH]))
    if additional_info:
        info.additional_info = encodable(additional_info[: _ADDITIONAL_INFO_MAX_LENGTH[version]])
    return encode_json(DataTransferResponse(DataTransferStatus.REJECTED, status_info=info))
