"""Public vendor protocols over DataTransfer: the types of their messages, a module for each.

plug_and_charge         ISO 15118 Plug & Charge over OCPP 1.6 (Open Charge Alliance)
california_pricing      cost messages for California's pricing rules (Open Charge Alliance)
general_configuration   public keys of signed meters
en_plus                 EN+ gateways
evbox                   EV-BOX: comma-separated text
evnex                   Evnex
monta                   Monta: one bare value
nrgkick                 NRGkick: comma-separated text
nu_ame                  nu.ame: bidirectional chargers
star_charge             StarCharge

Each module has a VENDOR_ID, for `Router(VENDOR_ID)`, and the types that handlers take and return.
Its docstring names the source of what is known, and lists the messages:

    from bridge import Call, Router
    from bridge.vendors import plug_and_charge as pnc

    router = Router(pnc.VENDOR_ID)

    @router.on("Authorize")
    async def authorize(call: Call, data: pnc.AuthorizeRequest) -> pnc.AuthorizeResponse: ...

A type refuses only what its source forbids: unknown fields are ignored, as stations add their own.
Of the project, these modules import nothing but `bridge`, as a module of yours would.
"""
