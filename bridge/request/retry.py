"""When a request is tried again: a decision, not a loop.

A handler asks for it by raising :class:`~bridge.request.outcome.Retry`; a :class:`RetryPolicy` can
name exceptions that mean the same. The answer is a number of seconds, or None: no more tries, give
it up. The request waits in the broker, which has a delay queue for each of :data:`DELAYS`;
:mod:`bridge.worker.delay_queue` sees to it that the waiting ends in time.
"""

import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

DELAYS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds that a request can wait for its next try. Each has a queue of its own: the messages of a
queue expire in order, so all in it must wait equally long. They are close together at first, while
a station waits; the last, five minutes, is for requests that nobody waits for."""

GRACE: Final = 30.0
"""Seconds after the end of a pause when the broker itself sends the request back, if no worker has
done so: because none runs, or none that consumes this queue."""

FACTOR_MAX: Final = 1000.0
"""The largest factor. Its second step is beyond the longest delay already, and its powers still fit
a float."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often, how soon and for what a request is tried again.

    Raises ValueError for values that make no sense, such as no attempts or a negative pause.
    """

    attempts: int = 5
    """Tries at most, the first included. With doubling pauses five span some 15 seconds; the least
    patient CSMS in the field waits 20."""
    first: float = 1.0
    """Seconds before the second try."""
    factor: float = 2.0
    """By which the pause grows from try to try, 1 to 1,000."""
    longest: float = 60.0
    """Seconds between tries at most."""
    jitter: float = 0.5
    """The part of a pause that is left to chance, 0 to 1: requests that failed together must not
    come back together."""
    max_age: float = 3600.0
    """Seconds after the first try beyond which there is no other; it bounds requests without a
    deadline."""
    on: tuple[type[Exception], ...] = ()
    """Exceptions that mean Retry. Name those that say that a dependency is down, not those that say
    that the request is wrong. Those that a router's policy names count for all its handlers, also
    for one with a policy of its own."""

    def __post_init__(self) -> None:
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
        """Seconds until the next try, once try number `attempt` has failed; None: there is none.

        `after`: the seconds that the handler asks for; None: as the policy says. `now`, `first_try`
        and `deadline`: seconds of Unix time. `chance`: a number from 0 to 1 at each call.
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
    """The shortest of :data:`DELAYS` that is not shorter than `seconds`, or else the longest."""
    return next((delay for delay in DELAYS if delay >= seconds), DELAYS[-1])


def nearest(seconds: float) -> float:
    """The one of :data:`DELAYS` that is nearest. Rounding up would take the jitter away again."""
    return min(DELAYS, key=lambda delay: abs(delay - seconds))


def milliseconds(delay: float) -> int:
    """A delay in milliseconds, as it stands in the name of its queue."""
    return round(delay * 1000)
