"""Requests of stations on their way to the CSMS, each in its station's turn.

Tens of thousands are on their way at a time, so none has a task, a future or a timer of the event
loop: a :class:`Forwarding` is one object, which is told what becomes of it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from bridge.client.asking import count_cancelled, count_error, count_reply
from bridge.client.errors import NoAnswer, no_queue
from bridge.client.requester import Outstanding, Requester
from bridge.compiled import fields
from bridge.dialects.native import Native
from bridge.dialects.replies import read_reply
from bridge.gateway.connection_id import ConnectionId
from bridge.gateway.stations import LARGEST, Stations
from bridge.gateway.turns import Turns
from bridge.ocpp import CallError, ErrorCode, OcppVersion
from bridge.ocpp.rpc import check_message_id
from bridge.request.outcome import Reply, call_error
from bridge.request.wheel import Wheel
from bridge.telemetry import ticks
from bridge.telemetry.measures import Tally
from bridge.transport import Delivery, Publishing

OnReply = Callable[[Reply | Exception], None]
"""Is told the answer, or why there is none. Must not raise."""

fields.check((Delivery,))

_MOST: Final = LARGEST


class Forwarding(Outstanding):
    """One request: it waits for its station's turn, is asked, and tells whoever wants to know."""

    __slots__ = (
        "_began",
        "_deadline",
        "_has_turn",
        "_names",
        "_on_reply",
        "_up",
        "body",
        "connection_id",
        "message_id",
        "vendor_id",
        "version",
    )

    def __init__(
        self,
        up: "Forwards",
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        message_id: str | None,
        seconds: float,
        connection_id: str | None,
        on_reply: OnReply,
    ) -> None:
        Outstanding.__init__(self, station_id, seconds, no_queue, True)
        self.version = version
        self.vendor_id = vendor_id
        self.body = body
        self.message_id = message_id
        self.connection_id = connection_id
        self._up: Forwards = up
        self._names: ConnectionId | None = None
        """Whose the connection id is, and who wants to know when this ends."""
        self._on_reply: OnReply | None = on_reply
        """None: it has ended."""
        self._deadline = 0.0
        self._began = 0.0
        self._has_turn = False

    def begin(self) -> None:
        """Take the turn, or wait for it. Ends at once if the request cannot be sent."""
        up = self._up
        names = None if self.connection_id is not None else up.connection(self.station_id)
        if names is not None:
            self._names = names
            self.connection_id = names.begin(self.message_id)
        if len(self.body) > _MOST:
            text = f"payload: {len(self.body)} bytes, and at most {_MOST} are taken"
            self.end(CallError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, text))
            return
        try:
            check_message_id(self.message_id)
        except ValueError as error:
            self.end(error)
            return
        self._deadline = time.time() + self.seconds
        wheel = up.wheel
        if wheel is None:
            wheel = up.wheel = Wheel()
        wheel.add(self, self.seconds)
        if up.turns.take(self.station_id, self):
            self._has_turn = True
            self.ask()

    def on_turn(self) -> bool:
        """Ask, and keep the turn unless that fails at once."""
        self.ask()
        self._has_turn = self._on_reply is not None
        return self._has_turn

    def ask(self) -> None:
        """It has the turn."""
        self._began = ticks.now()
        self._up.requester.start(self)

    def publishing(self, correlation_id: str, reply_to: str) -> Publishing:
        return self._up.dialect.station_asks(
            correlation_id,
            reply_to,
            self.station_id,
            self.version,
            self.vendor_id,
            self.body,
            self._deadline,
            self.message_id,
            self.connection_id,
        )

    def answered(self, delivery: Delivery) -> None:
        count_reply(self._up.tally, delivery, ticks.now() - self._began)
        self.end(read_reply(delivery))

    def failed(self, error: Exception) -> None:
        count_error(self._up.tally, error)
        self.end(error)

    def out_of_time(self) -> None:
        """No answer, or no turn."""
        if self.requester is not None:
            Outstanding.out_of_time(self)
            return
        self._up.turns.withdraw(self.station_id, self)
        self.failed(
            NoAnswer(
                "not sent: an earlier request of the station had no answer"
                f" within {self.seconds:g} s"
            )
        )

    def abandon(self) -> None:
        """Nobody wants the answer any more: the station's connection has ended.

        It gives up the station's turn, and tells nothing. Does nothing if it has ended.
        """
        if self._on_reply is None:
            return
        turns = self._up.turns
        if self.requester is not None:
            self.requester.withdraw(self)
            count_cancelled(self._up.tally)
        else:
            turns.withdraw(self.station_id, self)
        had_turn, self._has_turn = self._has_turn, False
        self._over()
        if had_turn:
            if turns.is_wanted(self.station_id):
                # Those that wait may be abandoned in the same breath, and must not be sent first.
                asyncio.get_running_loop().call_soon(self._give)
            else:
                self._give()

    def _give(self) -> None:
        self._up.turns.give(self.station_id)

    def end(self, result: Reply | Exception) -> None:
        """Tell what became of it."""
        on_reply = self._on_reply
        self._over()
        if isinstance(result, CallError):
            result = call_error(result, self.version)
        if on_reply is not None:
            on_reply(result)

    def _over(self) -> None:
        self._on_reply = None
        wheel = self._up.wheel
        if wheel is not None:
            wheel.remove(self)
        names = self._names
        if names is not None and self.connection_id is not None:
            names.end(self.connection_id)
        if self._has_turn:
            self._has_turn = False
            self._give()


class Forwards:
    """What a gateway's forwardings have in common."""

    __slots__ = (
        "_make",
        "_stations",
        "_timeout",
        "dialect",
        "requester",
        "tally",
        "turns",
        "wheel",
    )

    def __init__(
        self,
        requester: Requester,
        dialect: Native,
        stations: Stations,
        tally: Tally,
        timeout: float,
        make: Callable[..., Forwarding] = Forwarding,
    ) -> None:
        """`timeout`: seconds, for requests that have none of their own.

        `make`: makes a forwarding, of the parameters of its class.
        """
        self.requester = requester
        self.dialect = dialect
        self.turns = Turns()
        """Of stations."""
        self.tally = tally
        """What became of them."""
        self.wheel: Wheel | None = None
        """Their time-outs; None: there has been none."""
        self._stations = stations
        self._timeout = timeout
        self._make = make

    def __len__(self) -> int:
        """Stations that have a request on its way."""
        return len(self.turns)

    def connection(self, station_id: str) -> ConnectionId | None:
        """Names the CALLs of a station's connection; None: the station is not connected."""
        station = self._stations.get(station_id)
        return None if station is None else station.connection_id

    def start(
        self,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        message_id: str | None,
        timeout: float | None,
        connection_id: str | None,
        on_reply: OnReply,
    ) -> Forwarding:
        """Begin with a request. Parameters as in :class:`~bridge.gateway.GatewayLink`.

        `on_reply` is called once, which may be before this returns, unless the forwarding is
        abandoned first.
        """
        seconds = self._timeout if timeout is None else timeout
        forwarding = self._make(
            self,
            station_id,
            version,
            vendor_id,
            body,
            message_id,
            seconds,
            connection_id,
            on_reply,
        )
        forwarding.begin()
        return forwarding

    def close(self) -> None:
        """Tell all who still wait that there will be no answer."""
        self.requester.close()
        if self.wheel is not None:
            self.wheel.close()
