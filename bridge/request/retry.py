"""When a request is tried again: a decision, not a loop.

A handler asks for it by raising :class:`~bridge.request.outcome.Retry`; a :class:`RetryPolicy` can name exceptions that mean the same. The
answer is a number of seconds, or None: no more tries, give it up. The waiting is done in a queue of the broker for each of
:data:`DELAYS`; :mod:`bridge.worker.delay_queue` sees to it that it ends in time.
"""

import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

DELAYS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds a request can wait for its next try: one queue each, for a queue's messages expire in order, so that all in it must
wait equally long. Close together at first, where a station still waits; five minutes at last, for what nobody waits for."""

GRACE: Final = 30.0
"""Seconds after the end of a pause at which the broker itself sends the request back, if no worker has: none runs, or none that
knows of this queue."""

FACTOR_MAX: Final = 1000.0
"""Beyond the longest delay at the second step already, and its powers still fit a float."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often, how soon and for what a request is tried again."""

    attempts: int = 5
    """Tries at most, the first included. With the doubling pauses they span some 15 seconds; the least patient CSMS in the
    field waits 20."""
    first: float = 1.0
    """Seconds before the second try."""
    factor: float = 2.0
    """By which the pause grows from try to try."""
    longest: float = 60.0
    """Seconds between tries at most."""
    jitter: float = 0.5
    """The part of a pause that is left to chance, 0 to 1, so that what failed together does not come back together."""
    max_age: float = 3600.0
    """Seconds from the first try after which there is no other, for requests without a deadline."""
    on: tuple[type[Exception], ...] = ()
    """Exceptions that mean Retry. Name those of a dependency that is down, not those of a request that is wrong."""

    def __post_init__(self) -> None:
        """Raises ValueError for what could not be followed."""
        if not self.attempts >= 1:  # so that NaN is refused, here and below
            raise ValueError(f"attempts must be at least 1, not {self.attempts}")
        if not (self.first >= 0 and self.longest >= 0 and self.max_age >= 0):
            raise ValueError("first, longest and max_age are seconds from 0 up")
        if not 1 <= self.factor <= FACTOR_MAX:
            raise ValueError(f"factor is between 1 and {FACTOR_MAX:g}, not {self.factor}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is a part of 1, not {self.jitter}")
        on: Any = self.on
        if type(on) is not tuple or not all(
            isinstance(error, type) and issubclass(error, Exception) for error in on
        ):
            raise ValueError(f"on is a tuple of exception classes, not {on!r}")

    def pause(
        self,
        attempt: int,
        *,
        after: float | None,
        now: float,
        first_try: float,
        deadline: float | None,
        chance: Callable[[], float] = random.random,
    ) -> float | None:
        """Seconds until the next try once try number `attempt` has failed; None: there is none.

        `after`: the handler's own wish. `now`, `first_try` and `deadline` in seconds of Unix time.
        """
        if attempt >= self.attempts:
            return None
        if after is None:
            whole = min(self.longest, self.first * self.factor ** min(attempt - 1, 64))
            delay = nearest(whole * (1 - self.jitter * chance()))
        else:
            delay = round_up(after)
        if deadline is not None and now + delay >= deadline:
            return None
        if now + delay - first_try > self.max_age:
            return None
        return delay


def round_up(seconds: float) -> float:
    """The shortest of :data:`DELAYS` that is not shorter; the longest, for what is longer than all."""
    return next((delay for delay in DELAYS if delay >= seconds), DELAYS[-1])


def nearest(seconds: float) -> float:
    """The one of :data:`DELAYS` that is nearest: rounding up would take the jitter away again."""
    return min(DELAYS, key=lambda delay: abs(delay - seconds))


def milliseconds(delay: float) -> int:
    """A delay as its queue is named."""
    return round(delay * 1000)
