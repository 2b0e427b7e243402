"""Plug & Charge over OCPP 1.6: contracts, certificates and their status, in both directions.

Source: "Using ISO 15118 Plug & Charge with OCPP 1.6", application note v1.0, Open Charge Alliance,
September 2020. Its messages are those of OCPP 2.0.1, and so are its enumerations. Lengths are in
characters.

From the station        Authorize, Get15118EVCertificate, GetCertificateStatus, SignCertificate
To the station          CertificateSigned, DeleteCertificate, GetInstalledCertificateIds,
                        InstallCertificate, TriggerMessage

There are two levels of status: that of the DataTransferResponse says whether the message was
accepted, and that inside `data` says what became of the request.
"""

import datetime as dt
from typing import Annotated, Final, Literal, Protocol, TypeAlias, Unpack

from msgspec import Meta, Struct, field

from bridge import Call, Router
from bridge.vendors.pack import (
    Answer,
    BareCommand,
    Certainty,
    Command,
    RouterOptions,
    make_router,
    message,
)

VENDOR_ID: Final = "org.openchargealliance.iso15118pnc"
CERTAINTY: Final = Certainty.SPECIFIED

Pem: TypeAlias = Annotated[str, Meta(max_length=5500)]
"""A certificate or a signing request, in PEM."""
Exi: TypeAlias = Annotated[str, Meta(max_length=5600)]
"""A message of ISO 15118, EXI in base64."""


# ---- types that messages share ----


class IdToken(Struct, rename="camel"):
    """A token as an object, as OCPP 2.0.1 has it (IdTokenType)."""

    id_token: Annotated[str, Meta(max_length=36)]
    """For Plug & Charge, the eMAID of the contract."""
    type: str
    """For Plug & Charge, "eMAID"."""


class CertificateHashData(Struct, rename="camel", omit_defaults=True):
    """What identifies a certificate, as in a request of OCSP (RFC 6960)."""

    hash_algorithm: Literal["SHA256", "SHA384", "SHA512"]
    issuer_name_hash: Annotated[str, Meta(max_length=128)]
    issuer_key_hash: Annotated[str, Meta(max_length=128)]
    serial_number: Annotated[str, Meta(max_length=40)]
    responder_url: Annotated[str, Meta(max_length=512)] | None = field(
        name="responderURL", default=None
    )
    """The URL of the OCSP responder."""


# ---- from the station ----


class AuthorizeRequest(Struct, rename="camel"):
    """May the driver with this contract charge?"""

    id_token: str | IdToken
    """A text in the application note; an object in the field. See :attr:`emaid`."""
    certificate: Pem | None = None
    """The contract certificate."""
    iso15118_certificate_hash_data: (
        Annotated[list[CertificateHashData], Meta(max_length=4)] | None
    ) = None
    """The certificates of the contract's chain."""

    @property
    def emaid(self) -> str:
        """The eMAID of the contract, however it was sent."""
        return self.id_token if isinstance(self.id_token, str) else self.id_token.id_token


class IdTokenInfo(Struct, rename="camel", omit_defaults=True):
    """What is known about a token."""

    status: Literal["Accepted", "Blocked", "ConcurrentTx", "Expired", "Invalid"]
    cache_expiry_date_time: dt.datetime | None = None
    """Until when the station may remember the answer."""


class AuthorizeResponse(Struct, rename="camel", omit_defaults=True):
    """Whether the driver may charge."""

    id_token_info: IdTokenInfo
    certificate_status: (
        Literal[
            "Accepted",
            "SignatureError",
            "CertificateExpired",
            "CertificateRevoked",
            "NoCertificateAvailable",
            "CertChainError",
            "ContractCancelled",
        ]
        | None
    ) = None
    """The outcome of checking the certificate; None: there was none to check."""


class Get15118EVCertificateRequest(Struct, rename="camel"):
    """The vehicle wants a contract certificate."""

    iso15118_schema_version: Annotated[str, Meta(max_length=50)]
    action: Literal["Install", "Update"]
    exi_request: Exi
    """The vehicle's request, for the contract certificate pool."""


class Get15118EVCertificateResponse(Struct, rename="camel"):
    """The answer of the contract certificate pool."""

    status: Literal["Accepted", "Failed"]
    exi_response: Exi


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

    csr: Pem
    """The certificate signing request."""


class SignCertificateResponse(Struct):
    """Whether the request is taken. The certificate follows by :data:`certificate_signed`."""

    status: Literal["Accepted", "Rejected"]


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("Authorize")
    def authorize(self, call: Call, data: AuthorizeRequest, /) -> Answer[AuthorizeResponse]:
        """May the driver with this contract charge?"""

    @message("Get15118EVCertificate")
    def get_15118_ev_certificate(
        self, call: Call, data: Get15118EVCertificateRequest, /
    ) -> Answer[Get15118EVCertificateResponse]:
        """Pass the vehicle's request on to the contract certificate pool."""

    @message("GetCertificateStatus")
    def get_certificate_status(
        self, call: Call, data: GetCertificateStatusRequest, /
    ) -> Answer[GetCertificateStatusResponse]:
        """Ask the OCSP responder."""

    @message("SignCertificate")
    def sign_certificate(
        self, call: Call, data: SignCertificateRequest, /
    ) -> Answer[SignCertificateResponse]:
        """Take the request; the certificate follows by :data:`certificate_signed`."""


def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router."""
    return make_router(VENDOR_ID, CSMS, csms, **options)


# ---- to the station ----


class CertificateSignedRequest(Struct, rename="camel"):
    """The certificate that the station has asked for."""

    certificate_chain: Annotated[str, Meta(max_length=10_000)]
    """In PEM: the certificate, then those of the sub-CAs."""


class CertificateSignedResponse(Struct):
    """Whether the station takes the certificate."""

    status: Literal["Accepted", "Rejected"]


class DeleteCertificateRequest(Struct, rename="camel"):
    """Remove a certificate."""

    certificate_hash_data: CertificateHashData


class DeleteCertificateResponse(Struct):
    """What became of it."""

    status: Literal["Accepted", "Failed", "NotFound"]


CertificateUse: TypeAlias = Literal[
    "V2GRootCertificate", "MORootCertificate", "V2GCertificateChain"
]
"""What a certificate in a station is for."""


class GetInstalledCertificateIdsRequest(Struct, rename="camel", omit_defaults=True):
    """Which certificates does the station have?"""

    certificate_type: list[CertificateUse] | None = None
    """Those of these uses; None: all."""


class CertificateHashDataChain(Struct, rename="camel"):
    """A certificate in a station, and those below it."""

    certificate_type: CertificateUse
    certificate_hash_data: CertificateHashData
    child_certificate_hash_data: Annotated[list[CertificateHashData], Meta(max_length=4)] | None = (
        None
    )


class GetInstalledCertificateIdsResponse(Struct, rename="camel"):
    """The certificates that the station has."""

    status: Literal["Accepted", "NotFound"]
    certificate_hash_data_chain: list[CertificateHashDataChain] | None = None


class InstallCertificateRequest(Struct, rename="camel"):
    """Trust this root certificate from now on."""

    certificate_type: Literal["V2GRootCertificate", "MORootCertificate"]
    certificate: Pem


class InstallCertificateResponse(Struct):
    """What became of it."""

    status: Literal["Accepted", "Rejected", "Failed"]


class TriggerMessageResponse(Struct):
    """Whether the station will send it."""

    status: Literal["Accepted", "Rejected", "NotImplemented"]


certificate_signed: Final = Command(
    VENDOR_ID, "CertificateSigned", CertificateSignedRequest, CertificateSignedResponse
)
"""Give a station the certificate that it has asked for."""

delete_certificate: Final = Command(
    VENDOR_ID, "DeleteCertificate", DeleteCertificateRequest, DeleteCertificateResponse
)
"""Have a station remove a certificate."""

get_installed_certificate_ids: Final = Command(
    VENDOR_ID,
    "GetInstalledCertificateIds",
    GetInstalledCertificateIdsRequest,
    GetInstalledCertificateIdsResponse,
)
"""Ask a station which certificates it has."""

install_certificate: Final = Command(
    VENDOR_ID, "InstallCertificate", InstallCertificateRequest, InstallCertificateResponse
)
"""Have a station trust a root certificate."""

trigger_message: Final = BareCommand(VENDOR_ID, "TriggerMessage", TriggerMessageResponse, sent={})
"""Have a station send SignCertificate."""
