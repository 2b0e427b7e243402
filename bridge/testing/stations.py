"""A station in a test: the CSMS asks it, and it asks."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec import UNSET

from bridge.gateway.station_handler import StationHandler
from bridge.ocpp import (
    DataTransferRequest,
    DataTransferResponse,
    DataTransferStatus,
    OcppVersion,
)

if TYPE_CHECKING:
    from bridge.gateway.link import GatewayLink


class TestStation:
    """A station that is connected while it is entered. :meth:`TestBridge.station` makes it."""

    __test__ = False  # pytest: it is no test

    def __init__(
        self,
        station_id: str,
        version: OcppVersion,
        handler: StationHandler | None,
        *,
        link: "Callable[[], Awaitable[GatewayLink]]",
        ask: Callable[..., Awaitable[DataTransferResponse]],
    ) -> None:
        """`handler`: None: it accepts everything, and :attr:`received` has it.

        `link`: the gateway that it is connected to. `ask`: sends its requests.
        """
        self.station_id = station_id
        self.version = version
        self.received: list[DataTransferRequest] = []
        """What the CSMS has asked it, if it has no handler of its own."""
        self._open_link = link
        self._ask = ask
        self._handler = self._accept if handler is None else handler
        self._link: GatewayLink | None = None

    async def __aenter__(self) -> Self:
        self._link = await self._open_link()
        await self._link.connect_station(self.station_id, self.version, self._handler)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._link is not None:
            await self._link.disconnect_station(self.station_id, self._handler)

    async def _accept(self, request: DataTransferRequest) -> DataTransferResponse:
        self.received.append(request)
        return DataTransferResponse(DataTransferStatus.ACCEPTED)

    async def data_transfer(
        self, vendor_id: str, message_id: str | None = None, data: Any = UNSET, **options: Any
    ) -> DataTransferResponse:
        """Ask the bridge, as :meth:`~bridge.testing.TestBridge.data_transfer`, in its version."""
        return await self._ask(
            self.station_id, vendor_id, message_id, data, version=self.version, **options
        )
