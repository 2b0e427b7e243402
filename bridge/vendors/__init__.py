"""Vendor packs: public protocols over DataTransfer, typed and checked, a module for each.

plug_and_charge         ISO 15118 Plug & Charge over OCPP 1.6 (Open Charge Alliance)
california_pricing      prices and costs for California's pricing rules (Open Charge Alliance)
multilanguage           texts in several languages, in customData (Open Charge Alliance)
unified_error_codes     details of an error (DIN DKE SPEC 99003, CharIN)
compleo                 Compleo: tariffs of stations with a payment terminal
etrel                   Etrel: how a vehicle is charged
uniev                   UNIEV and GRE: cards are registered at a station
evbox                   EV-BOX: comma-separated text
star_charge             StarCharge: the vehicle that is plugged in
monta                   Monta: what a station shows
en_plus                 EN+: a station's gateway
nrgkick                 NRGkick: comma-separated text
evnex                   Evnex: a message without data
nu_ame                  nu.ame: bidirectional stations
easee                   Easee: sessions that a station has kept
general_configuration   public keys of signed meters

Each module has the types of its messages and a VENDOR_ID. Where stations ask, it has a `CSMS`, the
interface that you implement, and `router`, which makes a Router of it. Where the CSMS asks
stations, it has a command for each message. Its docstring names the source of what is known.

    from bridge import Call
    from bridge.vendors import plug_and_charge as pnc

    class Contracts:
        async def authorize(self, call: Call, data: pnc.AuthorizeRequest) -> pnc.AuthorizeResponse:
            ...

    router = pnc.router(Contracts())

    response = await pnc.install_certificate(client, "CP001", pnc.InstallCertificateRequest(...))

A type refuses only what its source forbids: unknown fields are ignored, as stations add their own.
Of the project, packs import nothing but `bridge`, as a module of yours would. What they are made of
stands in this package as well, for a pack of your own (``docs/vendors.md``).
"""

from importlib import import_module
from types import ModuleType

from bridge.vendors.pack import (
    Answer,
    BareCommand,
    Certainty,
    Command,
    Message,
    RouterOptions,
    SendOptions,
    checked,
    make_router,
    message,
    messages_of,
)

__all__ = [
    "Answer",
    "BareCommand",
    "Certainty",
    "Command",
    "Message",
    "RouterOptions",
    "SendOptions",
    "california_pricing",
    "checked",
    "compleo",
    "easee",
    "en_plus",
    "etrel",
    "evbox",
    "evnex",
    "general_configuration",
    "make_router",
    "message",
    "messages_of",
    "monta",
    "multilanguage",
    "nrgkick",
    "nu_ame",
    "plug_and_charge",
    "star_charge",
    "uniev",
    "unified_error_codes",
]


def __getattr__(name: str) -> ModuleType:
    """Import a pack on its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
