"""A jittered pause before the next attempt."""

import random
from typing import Final

BACK_OFF_FIRST: Final = 0.1
"""Seconds: the longest pause before the first attempt to reconnect; doubled for each later one."""
BACK_OFF_LONGEST: Final = 4.0
"""Seconds: the longest pause between attempts. A fleet that comes back must neither arrive all at
once nor be late: within 5 s of a broker's return, every worker consumes again."""


def back_off(
    failures: int, *, first: float = BACK_OFF_FIRST, longest: float = BACK_OFF_LONGEST
) -> float:
    """Seconds to wait after that many failures in a row.

    Anything from 0 up to a limit: `first`, doubled for each failure, but at most `longest`.
    That is "full jitter", which spreads the attempts of a fleet best
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    limit = min(longest, first * 2.0 ** min(failures, 16))
    return random.uniform(0, limit)  # noqa: S311 - jitter is no secret
