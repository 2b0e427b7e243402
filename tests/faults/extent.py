"""How far the suite goes: set once, by its command line. As it stands, some six minutes."""

CUT_STEP = 12
"""Every so many bytes of a frame a connection is cut."""
FUZZED = 10_000
"""Requests made of chance."""
SOAK_SECONDS = 40.0
