"""Cost messages for California's pricing rules: the one that a charging station sends.

Source: "OCPP & California Pricing Requirements", Open Charge Alliance.

ConnectorUnplugged      ConnectorUnplugged            → no data
"""

import datetime as dt
from typing import Final

from msgspec import Struct

VENDOR_ID: Final = "org.openchargealliance.costmsg"


class ConnectorUnplugged(Struct, rename="camel"):
    """The driver has unplugged the vehicle, which ends the idle fee.

    A station keeps this message while it is offline, so the timestamp may lie far back.
    """

    transaction_id: int | str
    """A number, as in OCPP 1.6, or a text, as in 2.x."""
    timestamp: dt.datetime
    """When the vehicle was unplugged."""
