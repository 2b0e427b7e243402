"""BootNotification, Heartbeat and StatusNotification: what the gateway answers by itself.

Without these answers a real station does not come up. Only the fields that the schema requires are
read; a station may add whatever it likes. Text that nobody but the log reads may be longer than the
schema says, because a station that is refused for the name of its model never comes up.
"""

import datetime as dt
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from bridge.gateway.websocket.boot import BootAnswer
from bridge.ocpp import CallError, OcppVersion
from bridge.ocpp.faults import DECODE_FAULTS

Fact = str | int
"""One thing that a station says about itself, for the log."""


class LocalAnswer(Struct, frozen=True):
    """The payload of a CALLRESULT, and what the station said in its request."""

    payload: bytes
    facts: dict[str, Fact] = {}


TEXT_MAX: Final = 255
"""Characters of a text that only the log reads. OCPP allows 20 to 50, and stations send more."""

_Text = Annotated[str, Meta(max_length=TEXT_MAX)]

# ---- requests ----


class _Boot16(Struct, rename="camel"):
    """OCPP 1.6 §6.3."""

    charge_point_vendor: _Text
    charge_point_model: _Text

    def facts(self) -> dict[str, Fact]:
        return {"vendor": self.charge_point_vendor, "model": self.charge_point_model}


class _ChargingStation(Struct, rename="camel"):
    vendor_name: _Text
    model: _Text


class _Boot2(Struct, rename="camel"):
    """OCPP 2.0.1 B01."""

    charging_station: _ChargingStation
    reason: _Text

    def facts(self) -> dict[str, Fact]:
        station = self.charging_station
        return {"vendor": station.vendor_name, "model": station.model, "reason": self.reason}


class _Status16(Struct, rename="camel"):
    """OCPP 1.6 §6.47."""

    connector_id: int
    error_code: _Text
    status: _Text

    def facts(self) -> dict[str, Fact]:
        return {
            "connector": self.connector_id,
            "status": self.status,
            "error_code": self.error_code,
        }


class _Status2(Struct, rename="camel"):
    """OCPP 2.0.1 G01."""

    timestamp: _Text
    connector_status: _Text
    evse_id: int
    connector_id: int

    def facts(self) -> dict[str, Fact]:
        return {
            "evse": self.evse_id,
            "connector": self.connector_id,
            "status": self.connector_status,
        }


class _Heartbeat(Struct):
    """A Heartbeat has no fields in any version."""

    def facts(self) -> dict[str, Fact]:
        return {}


# ---- responses ----


class _Booted(Struct, rename="camel"):
    """The same in every version (OCPP 1.6 §6.4, OCPP 2.0.1 BootNotificationResponse)."""

    status: str
    current_time: str
    interval: int


class _CurrentTime(Struct, rename="camel"):
    current_time: str


class _Nothing(Struct):
    pass


def rfc3339(moment: dt.datetime) -> str:
    """`moment` as OCPP-J writes it: in UTC, with milliseconds and a Z."""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


_Response = _Booted | _CurrentTime | _Nothing
_Respond = Callable[[dt.datetime, BootAnswer], _Response]


def _booted(now: dt.datetime, answer: BootAnswer) -> _Response:
    return _Booted(answer.status.value, rfc3339(now), answer.interval or 0)


def _time(now: dt.datetime, _: BootAnswer) -> _Response:
    return _CurrentTime(rfc3339(now))


def _nothing(_: dt.datetime, __: BootAnswer) -> _Response:
    return _Nothing()


_Request = _Boot16 | _Boot2 | _Status16 | _Status2 | _Heartbeat
_Decoder = msgspec.json.Decoder[_Request]


class _Local(Struct, frozen=True):
    """One action: how its request is read in 1.6 and in 2.x, and how it is answered."""

    in_1_6: msgspec.json.Decoder[_Request]
    in_2: msgspec.json.Decoder[_Request]
    respond: _Respond


_LOCAL: Final = {
    "BootNotification": _Local(
        msgspec.json.Decoder(_Boot16), msgspec.json.Decoder(_Boot2), _booted
    ),
    "Heartbeat": _Local(msgspec.json.Decoder(_Heartbeat), msgspec.json.Decoder(_Heartbeat), _time),
    "StatusNotification": _Local(
        msgspec.json.Decoder(_Status16), msgspec.json.Decoder(_Status2), _nothing
    ),
}


def local_answer(
    action: str,
    payload: bytes | Raw,
    version: OcppVersion,
    *,
    now: dt.datetime,
    heartbeat: int,
    on_boot: Callable[[bytes], BootAnswer] | None = None,
) -> LocalAnswer | None:
    """The answer to an action that the gateway answers by itself; None for any other action.

    `heartbeat`: seconds between Heartbeats, told to a station that boots. `on_boot` says how such a
    station is answered; None: it is accepted. A payload of null counts as an empty one (OCPP-J 1.6
    §4.2.1). Raises CallError if the payload violates the schema, and what `on_boot` raises.
    """
    local = _LOCAL.get(action)
    if local is None:
        return None
    decoder = local.in_1_6 if version is OcppVersion.V1_6 else local.in_2
    try:
        request = decoder.decode(b"{}" if bytes(payload) == b"null" else payload)
    except DECODE_FAULTS as fault:
        raise CallError.from_fault(fault) from fault
    facts = request.facts()
    answer = BootAnswer(interval=heartbeat)
    if on_boot is not None and local.respond is _booted:
        told = on_boot(bytes(payload))
        answer = BootAnswer(told.status, heartbeat if told.interval is None else told.interval)
        facts |= {"answer": answer.status.value}
    return LocalAnswer(msgspec.json.encode(local.respond(now, answer)), facts)
