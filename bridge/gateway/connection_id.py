"""Names the connections of stations for the bridge, which tells repetitions of a CALL by them."""

import secrets
import time
from collections.abc import Callable
from typing import Final

JUST_ANSWERED: Final = 30.0
"""Seconds after its answer in which a CALL that comes again is a repetition: the station sent it
anew while the answer was on its way. Stations wait as long in the common libraries."""


class ConnectionId:
    """The connection ids of one connection of a station.

    OCPP wants message ids that are unique for a connection, and there are stations that use one id
    for ever. So a CALL is named as the one before it only if it may be its repetition: it has the
    same message id, and the one before is in hand or has just been answered.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: gives seconds, and never goes back."""
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._number = 0
        self._current = f"{self._name}-0"
        self._message_id: str | None = None
        self._in_hand = 0
        self._answered_at = 0.0

    def begin(self, message_id: str | None) -> str:
        """The connection id of a CALL that has come. `message_id`: None: it will have a new one."""
        in_time = self._in_hand or self._clock() - self._answered_at <= JUST_ANSWERED
        if message_id is None or message_id != self._message_id or not in_time:
            self._number += 1
            self._current = f"{self._name}-{self._number:x}"
            self._in_hand = 0
            self._message_id = message_id
        self._in_hand += 1
        return self._current

    def end(self, connection_id: str) -> None:
        """A CALL has its answer, or will have none. `connection_id`: what :meth:`begin` gave."""
        if connection_id == self._current:
            self._in_hand -= 1
            self._answered_at = self._clock()
