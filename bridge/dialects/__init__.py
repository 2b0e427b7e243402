"""How gateways write on RabbitMQ: one pure module each.

native     the bridge's own wire contract
shared     what the others have in common, whose vendors share a queue
web_ocpp   the plugin rabbitmq-web-ocpp
citrineos  CitrineOS
letters    their requests among the dead letters
"""

import enum

from bridge.dialects import citrineos, web_ocpp
from bridge.dialects.citrineos import CitrineOs
from bridge.dialects.dialect import Dialect, Names
from bridge.dialects.native import Contract
from bridge.dialects.web_ocpp import WebOcpp


class DialectName(enum.StrEnum):
    """What a gateway speaks."""

    NATIVE = "native"
    """The wire contract of this project."""
    WEB_OCPP = web_ocpp.NAME
    CITRINEOS = citrineos.NAME


def open_dialect(
    name: DialectName,
    prefix: str = "datatransfer",
    *,
    exchange: str | None = None,
    patience: float | None = None,
    reply_prefixes: tuple[str, ...] = (),
) -> Dialect:
    """The dialect of that name. `exchange`, `patience` (seconds): in place of the gateway's defaults.

    Raises ValueError with a sentence for what the dialect does not have.
    """
    if name is DialectName.NATIVE:
        if exchange is not None or patience is not None:
            raise ValueError("--gateway-exchange and --answer-within are for the dialects web-ocpp and citrineos")
        return Contract(Names(prefix), reply_prefixes)
    if reply_prefixes:
        raise ValueError(
            f"--reply-prefix is for the native dialect: the answers of {name} go to the gateway's exchange"
        )
    made = WebOcpp if name is DialectName.WEB_OCPP else CitrineOs
    module = web_ocpp if name is DialectName.WEB_OCPP else citrineos
    return made(
        prefix, module.EXCHANGE if exchange is None else exchange, module.PATIENCE if patience is None else patience
    )


__all__ = ["CitrineOs", "DialectName", "WebOcpp", "open_dialect"]
