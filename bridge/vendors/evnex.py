"""Evnex: a message that carries no data at all.

Source: public reports. The vendor has published no description, and the reports do not say what a
station does with an answer.

From the station        GetNetStat
"""

from typing import Final, Protocol, Unpack

from bridge import Call, Router
from bridge.vendors.pack import Answer, Certainty, RouterOptions, make_router, message

VENDOR_ID: Final = "Evnex"
CERTAINTY: Final = Certainty.OBSERVED


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("GetNetStat")
    def get_net_stat(self, call: Call, /) -> Answer[None]:
        """To accept it is enough, as far as is known."""


def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router."""
    return make_router(VENDOR_ID, CSMS, csms, **options)
