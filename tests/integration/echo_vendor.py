"""Says who asked, and what. Run as `dtbridge run tests.integration.echo_vendor:router`."""

from typing import Any

from bridge import Call, Router

router = Router("echo")


@router.default
async def echo(call: Call, data: list[Any]) -> list[Any]:
    return [call.station_id, *data]
