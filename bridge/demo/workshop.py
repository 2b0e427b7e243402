"""The demo's handlers, for messages that charging stations really send.

They answer only from the message at hand, so that the same message always gets the same answer. A
real handler would ask a database or a payment service at the same place.
"""

# ruff: noqa: ARG001 - a handler takes (call, data), and these few need nothing of the call

import asyncio
import datetime as dt
from typing import Any, NoReturn

import msgspec

from bridge import Call, DataTransferResponse, Rejected, Retry, Router
from bridge.vendors import (
    california_pricing,
    en_plus,
    evbox,
    evnex,
    general_configuration,
    monta,
    nrgkick,
    nu_ame,
    plug_and_charge,
    star_charge,
    uniev,
    unified_error_codes,
)

# ---- protocols of the Open Charge Alliance ----

plug_and_charge_router = Router(plug_and_charge.VENDOR_ID)

BLOCKED_CONTRACTS = frozenset({"DE-8AA-CA2B3C4D5-N"})
"""The eMAIDs of contracts that have ended."""


@plug_and_charge_router.on("Authorize")
async def authorize(
    call: Call, data: plug_and_charge.AuthorizeRequest
) -> plug_and_charge.AuthorizeResponse:
    """Accept the message; the status inside `data` says whether the driver may charge."""
    token = data.id_token if isinstance(data.id_token, str) else data.id_token.id_token
    if token in BLOCKED_CONTRACTS:
        return plug_and_charge.AuthorizeResponse(plug_and_charge.IdTokenInfo("Blocked"))
    expiry = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    checked = bool(data.certificate or data.iso15118_certificate_hash_data)
    return plug_and_charge.AuthorizeResponse(
        plug_and_charge.IdTokenInfo("Accepted", expiry),
        certificate_status="Accepted" if checked else None,
    )


@plug_and_charge_router.on("Get15118EVCertificate")
async def get_ev_certificate(
    call: Call, data: plug_and_charge.Get15118EVCertificateRequest
) -> plug_and_charge.Get15118EVCertificateResponse:
    """Ask the contract certificate pool; here it sends the vehicle's EXI request straight back."""
    return plug_and_charge.Get15118EVCertificateResponse("Accepted", exi_response=data.exi_request)


@plug_and_charge_router.on("GetCertificateStatus")
async def get_certificate_status(
    call: Call, data: plug_and_charge.GetCertificateStatusRequest
) -> plug_and_charge.GetCertificateStatusResponse:
    if data.ocsp_request_data.responder_url is None:
        return plug_and_charge.GetCertificateStatusResponse("Failed")
    return plug_and_charge.GetCertificateStatusResponse(
        "Accepted", ocsp_result="MIIBCgoBAKCCAQMwgf8GCSsGAQUFBzABAQ=="
    )


@plug_and_charge_router.on("SignCertificate")
async def sign_certificate(
    call: Call, data: plug_and_charge.SignCertificateRequest
) -> plug_and_charge.SignCertificateResponse:
    is_pem = data.csr.startswith("-----BEGIN CERTIFICATE REQUEST-----")
    return plug_and_charge.SignCertificateResponse("Accepted" if is_pem else "Rejected")


california_pricing_router = Router(california_pricing.VENDOR_ID)


@california_pricing_router.on("ConnectorUnplugged")
async def connector_unplugged(call: Call, data: california_pricing.ConnectorUnplugged) -> None:
    """End the idle fee."""


# ---- vendors whose `data` is text ----

evbox_router = Router(evbox.VENDOR_ID)


@evbox_router.on("evbStatusNotification")
async def evb_status_notification(call: Call, data: str) -> None:
    fields = evbox.split_fields(data)
    if len(fields) < 15:
        raise Rejected("FieldsMissing", f"expected 15 fields or more, got {len(fields)}")


@evbox_router.default
async def other_evbox_message(call: Call, data: str | None) -> None:
    """Accept evbWifiStatusNotification, evbConnectionInfo and whatever new firmware sends."""


monta_router = Router(monta.VENDOR_ID)


@monta_router.on("SoC")
async def state_of_charge(call: Call, data: monta.StateOfCharge) -> None:
    """A state of charge in percent."""


@monta_router.on("StartTime")
async def start_time(call: Call, data: dt.datetime) -> None:
    """The time when charging will begin."""


nrgkick_router = Router(nrgkick.VENDOR_ID)


class Readings(msgspec.Struct):
    phases: int
    power: float
    """The sum over the phases, in W."""


@nrgkick_router.on()
def readings(call: Call, data: str) -> Readings:
    """Add up the power of the phases. A plain function runs in a thread and may take its time."""
    try:
        values = nrgkick.parse_numbers(data)
    except ValueError:
        raise Rejected("NotANumber", "expected numbers with commas between them") from None
    return Readings(phases=len(values), power=sum(values))


# ---- vendors whose `data` is JSON, or absent ----

star_charge_router = Router(star_charge.VENDOR_ID)


@star_charge_router.on("CarId")
async def car_id(call: Call, data: list[str]) -> None:
    if not data:
        raise Rejected("NoCarId", "the list of car ids is empty")


en_plus_router = Router(en_plus.VENDOR_ID)


class GatewayAck(msgspec.Struct):
    serial_number: str = msgspec.field(name="SN")
    update: bool
    """Whether newer firmware is available."""


LATEST_FIRMWARE = "V3.3.102"


@en_plus_router.on("gatewayInfo")
async def gateway_info(call: Call, data: en_plus.GatewayInfo) -> GatewayAck:
    return GatewayAck(data.serial_number, update=data.firmware_version != LATEST_FIRMWARE)


evnex_router = Router(evnex.VENDOR_ID)


@evnex_router.on("GetNetStat")
async def net_stat(call: Call) -> None:
    """A message without data: the handler does not ask for any."""


general_configuration_router = Router(general_configuration.VENDOR_ID)


@general_configuration_router.on("setMeterConfiguration")
async def set_meter_configuration(
    call: Call, data: general_configuration.MeterConfiguration
) -> None:
    """Keep each meter's public key."""
    connectors = {meter.connector_id for meter in data.meters}
    if len(connectors) < len(data.meters):
        raise Rejected("DuplicateConnector", "a connector has more than one meter")


nu_ame_router = Router(nu_ame.VENDOR_ID)


class PowerLimits(msgspec.Struct):
    p_max: int
    p_min: int


@nu_ame_router.on("customMeterValues")
async def custom_meter_values(call: Call, data: nu_ame.CustomMeterValues) -> PowerLimits:
    """Do not discharge a vehicle that is in local mode."""
    return PowerLimits(p_max=data.p_max, p_min=0 if data.local_mode else data.p_min)


# ---- vendor packs, by their interfaces ----


class Faults:
    """Takes note of what has happened."""

    async def status_notification_detail(
        self, call: Call, data: unified_error_codes.StatusNotificationDetail
    ) -> None:
        """Keep the detail with its StatusNotification."""


class Cards:
    """Registers members' cards."""

    async def card_registered(self, call: Call, data: uniev.CardRegistration) -> None:
        """Keep the card."""

    async def card_registration_status(
        self, call: Call, data: uniev.CardRegistrationStatus
    ) -> None:
        """Tell the member."""

    async def get_id_tag_profile(self, call: Call, data: uniev.IdTagQuery) -> uniev.IdTagProfile:
        return uniev.IdTagProfile(power="7")


unified_error_codes_router = unified_error_codes.router(Faults())
uniev_router = uniev.router(Cards())

# ---- what can go wrong, and data that must pass unaltered ----

workshop_router = Router("com.example.workshop")


@workshop_router.on("Echo")
async def echo(call: Call, data: msgspec.Raw) -> msgspec.Raw:
    """Byte for byte, in both directions."""
    return data


@workshop_router.on("Document")
async def document(call: Call, data: dict[str, Any]) -> dict[str, Any]:
    """Decoded and encoded again, with no key, number or null altered."""
    return data


@workshop_router.on("Ticket")
async def ticket(call: Call) -> DataTransferResponse:
    """A whole response, status included."""
    return DataTransferResponse(status="Rejected", data="workshop closed")


CRASH_TEXT = "db down at 10.0.0.5"
"""This text must never reach a station."""


@workshop_router.on("Crash")
async def crash(call: Call) -> NoReturn:
    raise RuntimeError(CRASH_TEXT)


@workshop_router.on("Busy")
async def busy(call: Call) -> NoReturn:
    raise Retry(after=3600, reason="stock-taking")


@workshop_router.on("Slow", timeout=0.25)
async def slow(call: Call) -> None:
    await asyncio.sleep(60)


routers = [
    plug_and_charge_router,
    california_pricing_router,
    evbox_router,
    monta_router,
    nrgkick_router,
    star_charge_router,
    en_plus_router,
    evnex_router,
    general_configuration_router,
    nu_ame_router,
    unified_error_codes_router,
    uniev_router,
    workshop_router,
]
"""All routers above, as `dtbridge run bridge.demo.workshop:routers` takes them."""
