"""A vendor that answers, asks for another try, and fails."""

from typing import Any

from bridge import Call, Retry, RetryPolicy, Router

router = Router("acme", retry=RetryPolicy(attempts=3))


@router.on("Echo")
async def echo(call: Call, data: list[Any]) -> list[Any]:
    return [call.station_id, *data]


@router.on("Again")
async def again(call: Call, data: list[Any]) -> list[Any]:
    """The second try goes well."""
    if call.attempt == 1:
        raise Retry
    return [call.attempt]


@router.on("Fails")
async def fails(call: Call, data: list[Any]) -> None:
    raise RuntimeError("as it is meant to")
