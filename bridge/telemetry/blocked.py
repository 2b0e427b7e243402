"""Names what blocks an event loop, while it still does.

A thread looks at the loop's :class:`~bridge.telemetry.pulse.Pulse`. When that is late, the thread
looks at the stack of the loop's thread: whoever blocks the loop stands in it. So it costs those who
do not block nothing at all.
"""

import itertools
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

import msgspec

from bridge.telemetry.logs import get_logger
from bridge.telemetry.pulse import Pulse

log = get_logger("bridge.loop")

BLOCKED_AFTER: Final = 0.5
"""Seconds after which a blocked loop is told of. No other request is answered meanwhile, so this is
what a handler may add to the answers of all the others; a pause of the garbage collector, or of a
busy machine, is mostly shorter."""
LOOKS: Final = 4
"""Looks in that time."""
QUIET: Final = 60.0
"""Seconds after a line about one handler until there is another about the same."""
FRAMES: Final = 20
"""Frames of the stack that are shown, the innermost."""
STACK_LENGTH: Final = 4_000
"""Characters of the stack that are shown, the last."""
OTHER: Final = ("other", "other")
"""The labels of blocks that no handler was found to be the cause of."""
SHOWN: Final = 255
"""Characters of a text of a station's that are shown."""


class Holder(msgspec.Struct, frozen=True):
    """Who is found at work in a stack."""

    name: str
    """The handler's, for people."""
    key: Any
    """What it works at. Another look that finds the very same has found it still at work."""
    details: dict[str, str] = {}
    """What else there is to say, for the log."""
    labels: tuple[str, str] = OTHER
    """The handler's vendor and message, as its router spells them."""
    begins_at: int = 0
    """Which frame of the stack is its first."""


Find = Callable[[Sequence[FrameType]], Holder | None]
"""Finds who is at work in a stack, given from the outermost frame to the innermost."""


class LoopWatch:
    """Watches an event loop from a thread of its own, between :meth:`start` and :meth:`stop`."""

    def __init__(self, bound: float = BLOCKED_AFTER, find: Find | None = None) -> None:
        """`bound`: seconds after which a blocked loop is told of; 0: it is not watched.

        `find`: None: the stack has to say who it is.
        """
        self._bound = bound
        self._step = bound / LOOKS
        self._find = find
        self._pulse = Pulse()
        self._stopped = threading.Event()
        self._loop_thread = 0
        self._awake_since = 0.0
        """Since when this thread has not been held up itself."""
        self._hold: _Hold | None = None
        self._told: dict[str, tuple[float, int]] = {}
        """By handler: when it was told of, and the times that it was not, since then."""
        self._noticed_at = -math.inf
        self.count = 0
        """Times that the loop was found blocked."""
        self._blamed: dict[tuple[str, str], int] = {}

    def start(self) -> None:
        """Begin to watch the running event loop. Call it there."""
        if self._bound <= 0:
            return
        self._loop_thread = threading.get_ident()
        self._pulse.start()
        threading.Thread(target=self._watch, name="loop watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no more. Call it on the event loop."""
        self._pulse.stop()
        self._stopped.set()

    def noticed_since(self, when: float) -> bool:
        """Whether it has found the loop blocked since then, by the monotonic clock."""
        return self._noticed_at >= when

    @property
    def blamed(self) -> dict[tuple[str, str], int]:
        """Times that the loop was found blocked, by the labels of the handler that held it.

        That is the one which was found at work at most of the looks, if there is one.
        """
        return dict(self._blamed)

    def _watch(self) -> None:
        self._awake_since = time.monotonic()
        while True:
            now = time.monotonic()
            pause = max(self._step, min(self._pulse.due + self._bound / 2 - now, self._bound))
            if self._stopped.wait(pause):
                return
            woke = time.monotonic()
            if woke - now - pause > self._step:
                # The process was stopped, or something holds the interpreter's lock. Which, and
                # for how long the loop alone has been held up, nobody knows.
                self._awake_since = woke
            try:
                self._look(woke)
            except Exception:
                log.exception("the event loop is not watched any more")
                return

    def _look(self, now: float) -> None:
        late = min(self._pulse.late, now - self._awake_since)
        if late < self._bound / 2:
            self._hold = None
            return
        stack = self._stack()
        holder = self._find(stack) if self._find is not None else None
        hold = self._hold
        if hold is None or hold.beats != self._pulse.beats:
            self._hold = hold = _Hold(self._pulse.beats)
        hold.seen(holder)
        if late >= self._bound and not hold.told:
            hold.told = True
            self._noticed_at = now
            self.count += 1
            blamed = hold.blamed
            self._blamed[blamed] = self._blamed.get(blamed, 0) + 1
            self._tell(holder, late, stack, hold)

    def _stack(self) -> list[FrameType]:
        """The frames of the loop's thread, from the outermost."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented so
        frames = []
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        return frames[::-1]

    def _tell(
        self, holder: Holder | None, late: float, stack: list[FrameType], hold: "_Hold"
    ) -> None:
        name = "" if holder is None else holder.name
        told_at, untold = self._told.get(name, (-math.inf, 0))
        now = time.monotonic()
        if now - told_at < QUIET:
            self._told[name] = told_at, untold + 1
            return
        self._told[name] = now, 0
        pairs: dict[str, Any] = {"seconds": round(late, 1)}
        if holder is not None:
            pairs |= {"handler": name}
            pairs |= {key: text[:SHOWN] for key, text in holder.details.items()}
        if untold:
            pairs["not_told_before"] = untold
        begins_at = _task_begins_at(stack) if holder is None else holder.begins_at
        log.warning(
            "the event loop is blocked", **pairs, hint=hold.hint, stack=shown(stack[begins_at:])
        )


class _Hold:
    """The loop as it is held up now."""

    def __init__(self, beats: int) -> None:
        self.beats = beats
        """Of the pulse, by which it is known from others."""
        self.told = False
        self._holder: Holder | None = None
        self._looks: dict[tuple[str, str], int] = {}
        self._same = True
        """Whether the same has been found at the same work at each look."""
        self._same_name = True

    def seen(self, holder: Holder | None) -> None:
        """Note who was found at work at another look."""
        before = self._holder
        if before is None or holder is None:
            self._same = self._same_name = not self._looks
        else:
            self._same = self._same and before.key is holder.key
            self._same_name = self._same_name and before.name == holder.name
        self._holder = holder
        labels = OTHER if holder is None else holder.labels
        self._looks[labels] = self._looks.get(labels, 0) + 1

    @property
    def blamed(self) -> tuple[str, str]:
        """The labels of the handler that was found at most of the looks."""
        labels, looks = max(self._looks.items(), key=lambda each: each[1])
        return labels if 2 * looks > sum(self._looks.values()) else OTHER

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self._holder is None or self._same:
            return "it waits or computes without await: make such a handler a plain def"
        if self._same_name:
            return (
                "several calls of this handler ran one after the other, and each waits or"
                " computes without await: make such a handler a plain def"
            )
        return "many handlers run one after the other, and none of them awaits anything"


def _task_begins_at(stack: Sequence[FrameType]) -> int:
    """Which frame of a loop's thread is the first above the loop's own; 0: there is none."""
    for at in range(len(stack) - 1, 0, -1):
        if str(stack[at - 1].f_globals.get("__name__", "")) in _LOOPS:
            return at
    return 0


_LOOPS: Final = frozenset({"asyncio.base_events", "asyncio.events"})
"""Modules that call whatever runs on a loop."""


def shown(stack: Sequence[FrameType]) -> str:
    """The innermost frames of a stack as text, like a traceback: the last line is at work."""
    frames = [(frame, frame.f_lineno) for frame in stack[-FRAMES:]]
    lines = itertools.chain.from_iterable(
        entry.splitlines() for entry in traceback.StackSummary.extract(iter(frames)).format()
    )
    return "\n".join(lines)[-STACK_LENGTH:]
