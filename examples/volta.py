"""Two vendors of one worker. Run them with `dtbridge run examples.volta:routers`."""

import msgspec

from bridge import Call, Rejected, Router

charging = Router("com.volta.charging")
service = Router("com.volta.service")
routers = [charging, service]


class Limit(msgspec.Struct, rename="camel"):
    connector_id: int
    ampere: float


class Applied(msgspec.Struct, rename="camel"):
    ampere: float


@charging.on("SetLimit")
async def set_limit(call: Call, data: Limit) -> Applied:
    if data.ampere < 0:
        raise Rejected("InvalidLimit", f"{call.station_id} cannot give power back")
    return Applied(min(data.ampere, 32.0))


@service.on("Logbook")
def logbook(call: Call, data: str) -> str:
    """It may wait, for a disk or another server: a plain def runs in a thread."""
    return f"{call.station_id}: {len(data.splitlines())} lines"
