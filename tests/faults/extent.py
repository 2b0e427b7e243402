"""How far the suite goes. The command line sets it once; these values take some fifteen minutes."""

CUT_STEP = 12
"""Bytes of a frame from one cut of the connection to the next."""
FUZZED = 10_000
"""Random requests."""
EFFECTS = 1_500
"""Requests with effects, while workers are killed at random."""
SOAK_SECONDS = 40.0
SLACK = 1.0
"""How many times as long as promised a recovery may take, on a machine that does other things."""


def longest() -> float:
    """Seconds after which a fault that has not ended has failed: far beyond what it takes."""
    return 240.0 + 2 * SOAK_SECONDS + FUZZED / 100 + EFFECTS / 50 + 2000 / CUT_STEP
