"""The requests of a vendor whose stations must have theirs handled in order.

The broker keeps the order up to here: all requests of a station come to one queue, and of all
workers one at a time is given what is in it. This intake keeps it from here on: of each station one
request is at work, and those that have come since stand in line behind it. Requests of other
stations pass them.

A request is at work until its outcome is known. A handler that asks for another try has had its
turn: the request comes again by a delay queue, behind what has come meanwhile.

When the worker is to stop, nothing more is begun. What stands in line is left to the broker
(:attr:`~bridge.transport.Verdict.LEAVE`), which gives it to the next worker in the old order, as
soon as what is at work here has been settled.
"""

from collections import deque
from typing import Any

from bridge.request.incoming import Request
from bridge.request.outcome import Outcome
from bridge.transport import Verdict
from bridge.worker.intake import BUSY, Intake
from bridge.worker.room import LARGE


class InOrderIntake(Intake):
    """One request of a station at a time."""

    def __init__(self, queue: str, **options: Any) -> None:
        """As :class:`~bridge.worker.intake.Intake`."""
        super().__init__(queue, **options)
        self._lines: dict[str, deque[Request] | None] = {}
        """By station, of those that have a request at work or next in turn: what comes after it.
        None: nothing does."""
        self._behind = 0
        """Requests in all lines."""
        self._turns: deque[Request] = deque()
        """Requests that are next of their station, and wait for a handler to finish."""
        self._taking = False
        self._leaving = False
        self._at_once = max(1, int(BUSY * min(self.concurrency, self.prefetch)))

    @property
    def waiting(self) -> int:
        """Requests that wait for a handler to finish, or for one of their station."""
        return len(self._turns) + self._behind

    @property
    def in_hand(self) -> int:
        """As :attr:`~bridge.worker.intake.Intake.in_hand`."""
        return super().in_hand + len(self._turns) + self._behind

    def take(self, request: Request) -> None:
        """Handle a request when all that its station sent before have been."""
        if self._leaving:
            request.source.settle(Verdict.LEAVE)
            return
        station = request.station_id
        if station not in self._lines:
            self._lines[station] = None
            self._turns.append(request)
            self._take_turns()
            return
        line = self._lines[station]
        if line is None:
            line = self._lines[station] = deque()
        line.append(request)
        self._behind += 1

    def settled(self, request: Request, outcome: Outcome) -> None:
        """As :meth:`~bridge.worker.intake.Intake.settled`, and then the next of its station."""
        super().settled(request, outcome)
        station = request.station_id
        line = self._lines[station]
        if line:
            self._turns.append(line.popleft())
            self._behind -= 1
        else:
            del self._lines[station]
        self._take_turns()

    def _take_turns(self) -> None:
        """Begin with what may, in one loop.

        A handler that never waits settles within the call, which would call this anew each time.
        """
        if self._taking:
            return
        self._taking = True
        try:
            while self._turns and self._running < self.concurrency:
                request = self._turns.popleft()
                if len(request.body) > LARGE:
                    # Where there is no room for it, it could not keep its place.
                    self._room.hold(len(request.body))
                if self._running < self._at_once:
                    self._running += 1
                    self.next(request)
                else:
                    self._begin_if_in_time(request)
        finally:
            self._taking = False

    def give_back(self) -> None:
        """Begin nothing more, and leave to the broker what has not begun."""
        self._leaving = True
        for request in self._turns:
            request.source.settle(Verdict.LEAVE)
            del self._lines[request.station_id]
        self._turns.clear()
        for station, line in self._lines.items():
            for request in line or ():
                request.source.settle(Verdict.LEAVE)
            self._lines[station] = None
        self._behind = 0
        super().give_back()

    def void(self) -> None:
        """As :meth:`~bridge.worker.intake.Intake.void`.

        What runs goes on, and its station waits for it: it will be delivered again.
        """
        for request in self._turns:
            del self._lines[request.station_id]
        self._turns.clear()
        for station in self._lines:
            self._lines[station] = None
        self._behind = 0
        super().void()
