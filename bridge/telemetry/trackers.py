"""What an error tracker is told of the request that was handled.

Trackers hook into logging, and so need nothing of the bridge to get its records with their
exceptions. But they find events by tags. Sentry's SDK is given those here, if the program has
imported it; the bridge does not.
"""

import sys
from typing import Any, Final

from bridge.telemetry.handled import facts

_TAGS: Final = ("station", "vendor", "message", "correlation_id", "trace_id")
_LONGEST: Final = 200
"""Characters of a tag, as Sentry takes it."""

_told: list[str] = []


def tell_sentry() -> None:
    """Have events of Sentry's SDK tagged with the request that is handled when they come up.

    Does nothing unless the SDK is imported, and nothing the second time.
    """
    scope = sys.modules.get("sentry_sdk.scope")
    add = getattr(scope, "add_global_event_processor", None)
    if add is None or _told:
        return
    _told.append("sentry_sdk")
    add(_with_tags)


def _with_tags(event: Any, _: Any) -> Any:
    """An event processor. What it raised would lose the event."""
    tags = event.setdefault("tags", {})
    if isinstance(tags, dict):
        for key, value in facts().items():
            if key in _TAGS:
                tags.setdefault(key, value[:_LONGEST])
    return event
