"""How far the suite goes: set once, by its command line. As it stands, some six minutes."""

CUT_STEP = 12
"""Every so many bytes of a frame a connection is cut."""
FUZZED = 10_000
"""Requests made of chance."""
SOAK_SECONDS = 40.0
SLACK = 1.0
"""Times as long as promised a recovery may take: for a machine that does other things as well."""


def longest() -> float:
    """Seconds after which a fault has failed that does not end: never on a machine that gets on at all."""
    return 240.0 + 2 * SOAK_SECONDS + FUZZED / 100 + 2000 / CUT_STEP
