"""What the bridge tells of itself: counts, metrics and log lines."""

import time
from typing import Final

LOADED_AT: Final = time.time()
"""When this process imported the bridge, in seconds of Unix time."""
