"""A jittered pause before the next attempt."""

import random
from typing import Final

BACK_OFF_FIRST: Final = 0.1
"""Seconds: the longest pause before the first attempt. It is doubled for each one after it."""
BACK_OFF_LONGEST: Final = 4.0
"""Seconds: the longest pause between attempts. A fleet that comes back must not arrive all at once,
nor be late: within 5 s of a broker's return, every worker consumes again."""


def back_off(failures: int) -> float:
    """Seconds to wait after that many failures in a row: anything up to the doubled limit.

    That is "full jitter", which spreads the attempts of a fleet best
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    longest = min(BACK_OFF_LONGEST, BACK_OFF_FIRST * 2.0 ** min(failures, 16))
    return random.uniform(0, longest)  # noqa: S311 - jitter is no secret
