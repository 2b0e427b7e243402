"""The clock that durations are measured by."""

from time import monotonic as now

__all__ = ["now"]
