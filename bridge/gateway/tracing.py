"""The span of a station's CALL in its gateway: from when it came to its answer."""

from collections.abc import Awaitable, Callable

from bridge.client.tracing import tell_answer
from bridge.ocpp import OcppVersion
from bridge.telemetry.tracing import Attributes, Kind, Tracing
from bridge.transport import Delivery

NAME = "DataTransfer"


class Calls:
    """Makes the spans of CALLs."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def answer(
        self,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        message_id: str | None,
        ask: Callable[[], Awaitable[Delivery]],
    ) -> Delivery:
        """Ask for the answer to a CALL within its span. Raises what `ask` raises."""
        attributes: Attributes = {
            "ocpp.action": NAME,
            "ocpp.station.id": station_id,
            "ocpp.version": version.value,
            "ocpp.vendor_id": vendor_id,
        }
        if message_id:
            attributes["ocpp.call.id"] = message_id
        span = self._tracing.start(NAME, Kind.SERVER, attributes)
        if span is None:
            return await ask()
        return await self._tracing.around(
            span, ask, lambda span, reply: tell_answer(self._tracing, span, reply)
        )
