"""Handlers for what charging stations really send: typed JSON where a vendor has it, comma-separated text where not.

They answer only out of the message at hand, so that the same message always gets the same answer. A real handler
would ask a database or a payment service at the same place.
"""

# ruff: noqa: ARG001 - a handler takes (call, data); these few need nothing of the call

import asyncio
import datetime as dt
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta

from bridge import Call, DataTransferResponse, Rejected, Retry, Router

# ---- Plug & Charge over OCPP 1.6: "Using ISO 15118 Plug & Charge with OCPP 1.6", Open Charge Alliance, 2020 --------

plug_and_charge = Router("org.openchargealliance.iso15118pnc")


class IdToken(msgspec.Struct, rename="camel"):
    id_token: Annotated[str, Meta(max_length=36)]
    type: str


class CertificateHashData(msgspec.Struct, rename="camel"):
    hash_algorithm: Literal["SHA256", "SHA384", "SHA512"]
    issuer_name_hash: Annotated[str, Meta(max_length=128)]
    issuer_key_hash: Annotated[str, Meta(max_length=128)]
    serial_number: Annotated[str, Meta(max_length=40)]
    responder_url: Annotated[str, Meta(max_length=512)] | None = msgspec.field(
        name="responderURL", default=None
    )


class AuthorizeRequest(msgspec.Struct, rename="camel"):
    id_token: str | IdToken  # text in the application note, an object in the field
    certificate: Annotated[str, Meta(max_length=5500)] | None = None
    iso15118_certificate_hash_data: Annotated[list[CertificateHashData], Meta(max_length=4)] = []


class IdTokenInfo(msgspec.Struct, rename="camel", omit_defaults=True):
    status: Literal["Accepted", "Blocked", "ConcurrentTx", "Expired", "Invalid"]
    cache_expiry_date_time: dt.datetime | None = None


class AuthorizeResponse(msgspec.Struct, rename="camel", omit_defaults=True):
    id_token_info: IdTokenInfo
    certificate_status: str | None = None


BLOCKED_CONTRACTS = frozenset({"DE-8AA-CA2B3C4D5-N"})
"""eMAIDs whose contract has ended."""


@plug_and_charge.on("Authorize")
async def authorize(call: Call, data: AuthorizeRequest) -> AuthorizeResponse:
    """Accept the message in any case; whether the driver may charge is said by the status inside `data`."""
    token = data.id_token if isinstance(data.id_token, str) else data.id_token.id_token
    if token in BLOCKED_CONTRACTS:
        return AuthorizeResponse(IdTokenInfo("Blocked"))
    expiry = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    checked = bool(data.certificate or data.iso15118_certificate_hash_data)
    return AuthorizeResponse(
        IdTokenInfo("Accepted", expiry), certificate_status="Accepted" if checked else None
    )


class Get15118EVCertificateRequest(msgspec.Struct, rename="camel"):
    iso15118_schema_version: Annotated[str, Meta(max_length=50)]
    action: Literal["Install", "Update"]
    exi_request: Annotated[str, Meta(max_length=5600)]


class Get15118EVCertificateResponse(msgspec.Struct, rename="camel"):
    status: Literal["Accepted", "Failed"]
    exi_response: Annotated[str, Meta(max_length=5600)]


@plug_and_charge.on("Get15118EVCertificate")
async def get_ev_certificate(
    call: Call, data: Get15118EVCertificateRequest
) -> Get15118EVCertificateResponse:
    """Hand the vehicle's EXI request to the contract certificate pool; here the pool sends it straight back."""
    return Get15118EVCertificateResponse("Accepted", exi_response=data.exi_request)


class GetCertificateStatusRequest(msgspec.Struct, rename="camel"):
    ocsp_request_data: CertificateHashData


class GetCertificateStatusResponse(msgspec.Struct, rename="camel", omit_defaults=True):
    status: Literal["Accepted", "Failed"]
    ocsp_result: Annotated[str, Meta(max_length=5500)] | None = None


@plug_and_charge.on("GetCertificateStatus")
async def get_certificate_status(
    call: Call, data: GetCertificateStatusRequest
) -> GetCertificateStatusResponse:
    if data.ocsp_request_data.responder_url is None:
        return GetCertificateStatusResponse("Failed")
    return GetCertificateStatusResponse(
        "Accepted", ocsp_result="MIIBCgoBAKCCAQMwgf8GCSsGAQUFBzABAQ=="
    )


class SignCertificateRequest(msgspec.Struct):
    csr: Annotated[str, Meta(max_length=5500)]


class SignCertificateResponse(msgspec.Struct):
    status: Literal["Accepted", "Rejected"]


@plug_and_charge.on("SignCertificate")
async def sign_certificate(call: Call, data: SignCertificateRequest) -> SignCertificateResponse:
    is_pem = data.csr.startswith("-----BEGIN CERTIFICATE REQUEST-----")
    return SignCertificateResponse("Accepted" if is_pem else "Rejected")


# ---- "OCPP & California Pricing Requirements", Open Charge Alliance: of its messages one comes from the station ----

cost_messages = Router("org.openchargealliance.costmsg")


class ConnectorUnplugged(msgspec.Struct, rename="camel"):
    transaction_id: int | str
    timestamp: dt.datetime


@cost_messages.on("ConnectorUnplugged")
async def connector_unplugged(call: Call, data: ConnectorUnplugged) -> None:
    """End the idle fee. Stations queue this message while they are offline, so the timestamp may lie far back."""


# ---- Vendors whose `data` is text ----------------------------------------------------------------------------------

evbox = Router("EV-BOX")


def split_outside_braces(text: str) -> list[str]:
    """The fields of EV-BOX's format: `1,Charging,{32,22000,53}` has three, for a group in braces is one field."""
    fields, depth = [""], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            fields.append("")
        else:
            fields[-1] += character
    return fields


@evbox.on("evbStatusNotification")
async def evb_status_notification(call: Call, data: str) -> None:
    fields = split_outside_braces(data)
    if len(fields) < 15:
        raise Rejected("FieldsMissing", f"expected 15 fields or more, got {len(fields)}")


@evbox.default
async def other_evbox_message(call: Call, data: str | None) -> None:
    """Accept evbWifiStatusNotification, evbConnectionInfo and whatever the next firmware brings."""


monta = Router("com.monta")


@monta.on("SoC")
async def state_of_charge(call: Call, data: Annotated[int, Meta(ge=0, le=100)]) -> None:
    """A state of charge in percent."""


@monta.on("StartTime")
async def start_time(call: Call, data: dt.datetime) -> None:
    """When charging will begin."""


nrgkick = Router("com.nrgkick")


class Readings(msgspec.Struct):
    phases: int
    power: float
    """The sum over the phases, in W."""


@nrgkick.on()
def readings(call: Call, data: str) -> Readings:
    """Add up the power of each phase: a plain function, so it runs in a thread and may take its time."""
    try:
        values = [float(value) for value in data.split(",")]
    except ValueError:
        raise Rejected("NotANumber", "expected numbers with commas between them") from None
    return Readings(phases=len(values), power=sum(values))


# ---- Vendors whose `data` is JSON ----------------------------------------------------------------------------------

star_charge = Router("StarCharge")


@star_charge.on("CarId")
async def car_id(call: Call, data: list[str]) -> None:
    if not data:
        raise Rejected("NoCarId", "the list of car ids is empty")


en_plus = Router("EN+")


class GatewayInfo(msgspec.Struct):
    serial_number: str = msgspec.field(name="SN")
    firmware_version: str = msgspec.field(name="fwVer")
    gate_code: str = msgspec.field(name="gateCode")


class GatewayAck(msgspec.Struct):
    serial_number: str = msgspec.field(name="SN")
    update: bool
    """Whether a newer firmware is waiting."""


LATEST_FIRMWARE = "V3.3.102"


@en_plus.on("gatewayInfo")
async def gateway_info(call: Call, data: GatewayInfo) -> GatewayAck:
    return GatewayAck(data.serial_number, update=data.firmware_version != LATEST_FIRMWARE)


evnex = Router("Evnex")


@evnex.on("GetNetStat")
async def net_stat(call: Call) -> None:
    """A message that carries no data at all."""


general_configuration = Router("generalConfiguration")


class Meter(msgspec.Struct, rename="camel"):
    connector_id: Annotated[int, Meta(ge=1)]
    meter_serial: str
    type: str
    public_key: str


class MeterConfiguration(msgspec.Struct):
    meters: list[Meter]


@general_configuration.on("setMeterConfiguration")
async def set_meter_configuration(call: Call, data: MeterConfiguration) -> None:
    """Keep each meter's public key: under German calibration law the driver checks signed readings with it."""
    connectors = {meter.connector_id for meter in data.meters}
    if len(connectors) < len(data.meters):
        raise Rejected("DuplicateConnector", "a connector has more than one meter")


nu_ame = Router("nu.ame")


class CustomMeterValues(msgspec.Struct):
    """A bidirectional charger's limits: power in W, reactive power in var, states of charge in percent."""

    local_mode: bool
    p_baseline: int
    q_baseline: int
    p_max: int
    p_min: int
    min_soc: Annotated[int, Meta(ge=0, le=100)]
    max_soc: Annotated[int, Meta(ge=0, le=100)]
    session_active: bool
    output_power: int


class PowerLimits(msgspec.Struct):
    p_max: int
    p_min: int


@nu_ame.on("customMeterValues")
async def custom_meter_values(call: Call, data: CustomMeterValues) -> PowerLimits:
    """Never discharge a battery below its minimum."""
    return PowerLimits(p_max=data.p_max, p_min=0 if data.local_mode else data.p_min)


# ---- What can go wrong, and data that must pass untouched ----------------------------------------------------------

workshop = Router("com.example.workshop")


@workshop.on("Echo")
async def echo(call: Call, data: msgspec.Raw) -> msgspec.Raw:
    """Byte for byte, in both directions."""
    return data


@workshop.on("Document")
async def document(call: Call, data: dict[str, Any]) -> dict[str, Any]:
    """Decoded and encoded again, with no key, number or null of the vendor's altered."""
    return data


@workshop.on("Ticket")
async def ticket(call: Call) -> DataTransferResponse:
    """Answer in full, status included."""
    return DataTransferResponse(status="Rejected", data="workshop closed")


CRASH_TEXT = "db down at 10.0.0.5"
"""It must never reach a station."""


@workshop.on("Crash")
async def crash(call: Call) -> NoReturn:
    raise RuntimeError(CRASH_TEXT)


@workshop.on("Busy")
async def busy(call: Call) -> NoReturn:
    raise Retry(after=3600, reason="stock-taking")


@workshop.on("Slow", timeout=0.25)
async def slow(call: Call) -> None:
    await asyncio.sleep(60)


routers = [
    plug_and_charge,
    cost_messages,
    evbox,
    monta,
    nrgkick,
    star_charge,
    en_plus,
    evnex,
    general_configuration,
    nu_ame,
    workshop,
]
"""Everything above, as `dtbridge run bridge.demo.workshop:routers` takes it."""
