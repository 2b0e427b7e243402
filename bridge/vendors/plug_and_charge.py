"""Plug & Charge over OCPP 1.6: the messages that a charging station sends.

Source: "Using ISO 15118 Plug & Charge with OCPP 1.6", application note v1.0, Open Charge Alliance,
September 2020. Lengths are in characters.

Authorize               AuthorizeRequest              → AuthorizeResponse
Get15118EVCertificate   Get15118EVCertificateRequest  → Get15118EVCertificateResponse
GetCertificateStatus    GetCertificateStatusRequest   → GetCertificateStatusResponse
SignCertificate         SignCertificateRequest        → SignCertificateResponse

There are two levels of status: that of the DataTransferResponse says whether the message was
accepted, and that inside `data` says what became of the request.
"""

import datetime as dt
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

VENDOR_ID: Final = "org.openchargealliance.iso15118pnc"


class IdToken(Struct, rename="camel"):
    """A token as an object, as OCPP 2.0.1 has it (IdTokenType)."""

    id_token: Annotated[str, Meta(max_length=36)]
    """For Plug & Charge, the eMAID of the contract."""
    type: str
    """For Plug & Charge, "eMAID"."""


class CertificateHashData(Struct, rename="camel"):
    """What identifies a certificate, as in a request of OCSP (RFC 6960)."""

    hash_algorithm: Literal["SHA256", "SHA384", "SHA512"]
    issuer_name_hash: Annotated[str, Meta(max_length=128)]
    issuer_key_hash: Annotated[str, Meta(max_length=128)]
    serial_number: Annotated[str, Meta(max_length=40)]
    responder_url: Annotated[str, Meta(max_length=512)] | None = field(
        name="responderURL", default=None
    )
    """The URL of the OCSP responder."""


class AuthorizeRequest(Struct, rename="camel"):
    """May the driver with this contract charge?"""

    id_token: str | IdToken
    """A text in the application note; an object in the field."""
    certificate: Annotated[str, Meta(max_length=5500)] | None = None
    """The contract certificate, in PEM."""
    iso15118_certificate_hash_data: Annotated[list[CertificateHashData], Meta(max_length=4)] = []
    """The certificates of the contract's chain."""


class IdTokenInfo(Struct, rename="camel", omit_defaults=True):
    """What is known about a token."""

    status: Literal["Accepted", "Blocked", "ConcurrentTx", "Expired", "Invalid"]
    cache_expiry_date_time: dt.datetime | None = None
    """Until when the station may remember the answer."""


class AuthorizeResponse(Struct, rename="camel", omit_defaults=True):
    """Whether the driver may charge."""

    id_token_info: IdTokenInfo
    certificate_status: str | None = None
    """The outcome of checking the certificate."""


class Get15118EVCertificateRequest(Struct, rename="camel"):
    """The vehicle wants a contract certificate."""

    iso15118_schema_version: Annotated[str, Meta(max_length=50)]
    action: Literal["Install", "Update"]
    exi_request: Annotated[str, Meta(max_length=5600)]
    """The vehicle's request, EXI in base64, for the contract certificate pool."""


class Get15118EVCertificateResponse(Struct, rename="camel"):
    """The answer of the contract certificate pool."""

    status: Literal["Accepted", "Failed"]
    exi_response: Annotated[str, Meta(max_length=5600)]
    """EXI in base64."""


class GetCertificateStatusRequest(Struct, rename="camel"):
    """Is this certificate revoked?"""

    ocsp_request_data: CertificateHashData


class GetCertificateStatusResponse(Struct, rename="camel", omit_defaults=True):
    """The answer of the OCSP responder."""

    status: Literal["Accepted", "Failed"]
    ocsp_result: Annotated[str, Meta(max_length=5500)] | None = None
    """An OCSPResponse (RFC 6960), DER in base64."""


class SignCertificateRequest(Struct):
    """The station wants a new certificate."""

    csr: Annotated[str, Meta(max_length=5500)]
    """The certificate signing request, in PEM."""


class SignCertificateResponse(Struct):
    """Whether the request is taken. The certificate follows in a message of its own."""

    status: Literal["Accepted", "Rejected"]
