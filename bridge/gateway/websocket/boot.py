"""The answer to a BootNotification, for those who want another than Accepted."""

import enum
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from bridge.ocpp import OcppVersion

INTERVAL_MAX: Final = 2**31 - 1
"""Seconds. Stations keep the interval in a 32-bit integer."""


class RegistrationStatus(enum.StrEnum):
    """Whether a station may work (OCPP 1.6 §7.42, OCPP 2.0.1 RegistrationStatusEnumType)."""

    ACCEPTED = "Accepted"
    PENDING = "Pending"
    """It is to wait, and may be asked and told things meanwhile."""
    REJECTED = "Rejected"
    """It is not known. It asks again after the interval."""


class Boot(Struct, frozen=True):
    """A station has booted."""

    station_id: str
    version: OcppVersion
    payload: bytes
    """Its BootNotification, JSON."""


class BootAnswer(Struct, frozen=True):
    """What the station is told."""

    status: RegistrationStatus = RegistrationStatus.ACCEPTED
    interval: int | None = None
    """Seconds between Heartbeats; if the station is not accepted, until it asks again. None: the
    gateway's own."""


BootHook = Callable[[Boot], BootAnswer]
"""Says how a station that boots is answered.

It runs on the event loop, so it must not wait. If it raises CallError, that is the answer; if it
raises anything else, the answer is a CALLERROR without a word of it. The gateway serves a station
that is not accepted as any other: OCPP leaves it to the station to keep quiet."""


def checked(answer: object) -> BootAnswer:
    """`answer`, if it can be sent. Raises TypeError or ValueError otherwise."""
    if not isinstance(answer, BootAnswer):
        raise TypeError(f"expected a BootAnswer, got a {type(answer).__name__}")
    interval = answer.interval
    if interval is not None and (type(interval) is not int or not 0 <= interval <= INTERVAL_MAX):
        raise ValueError(f"interval: expected 0 to {INTERVAL_MAX} seconds, got {interval!r:.60}")
    return BootAnswer(RegistrationStatus(answer.status), interval)
