"""Exceptions as text for those who mend their causes: where they come from, and how they came up.

An exception holds its frames, and a frame all that its function was working with. Nothing here
keeps one.
"""

import contextlib
import inspect
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

LONGEST: Final = 16_384
"""Characters of a traceback. The text of an exception can hold a whole document, and two functions
that call each other have a thousand frames."""
_TAIL: Final = LONGEST // 2
"""Of these, from its end, where the exception stands."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
"""As :func:`sys.exc_info` returns it."""


def exc_info_of(error: BaseException) -> ExcInfo:
    """What logging takes for an exception."""
    return type(error), error, error.__traceback__


def exception_text(exc_info: ExcInfo) -> str:
    """The traceback as Python prints it, with its causes and groups. Never raises.

    At most :data:`LONGEST` characters and a line that says how many are left out.
    """
    kind, error, frames = exc_info
    try:
        lines = traceback.TracebackException(kind, error, frames, compact=True).format()
        text = "".join(lines).rstrip("\n")
    except Exception as fault:  # noqa: BLE001 - somebody else's class, in whatever state
        text = f"{kind.__name__} (its traceback cannot be had: {type(fault).__name__})"
    left_out = len(text) - LONGEST
    if left_out <= 0:
        return text
    head, tail = text[: LONGEST - _TAIL], text[-_TAIL:]
    return f"{head}\n  … {left_out:,} characters are left out …\n{tail}"


_MACHINERY: Final = (
    "asyncio.",
    "bridge.gateway.",
    "bridge.request.",
    "bridge.routing.",
    "bridge.testing.",
    "bridge.worker.",
    "concurrent.",
)
"""Modules whose frames lie between the loop and a handler."""


def begin_at(function: Callable[..., Any], error: BaseException) -> None:
    """Have the traceback of `error` begin where `function` does.

    If it has no frame of it, it begins with the first one that is not the bridge's own. What is cut
    off are frames of the bridge, which would hold the task, and this in turn the exception.
    """
    code = getattr(_unwrapped(function), "__code__", None)
    first = None
    for frames in _each(error.__traceback__):
        if frames.tb_frame.f_code is code:
            first = frames
            break
        if first is None and not _is_machinery(frames.tb_frame):
            first = frames
    if first is not None:
        # Not by assignment, which a frozen dataclass refuses.
        BaseException.with_traceback(error, first)


def qualified_name(function: Any) -> str:
    """Module and name of a function, for people."""
    if isinstance(function, partial):
        return qualified_name(function.func)
    module = getattr(function, "__module__", None)
    qualified = getattr(function, "__qualname__", None) or repr(function)
    return f"{module}.{qualified}" if module else str(qualified)


def definition(function: Callable[..., Any]) -> str:
    """Where a function is defined, as ``file:line``; empty if that is not known."""
    function = _unwrapped(function)
    kind: Any = type(function)
    code = getattr(function, "__code__", None) or getattr(kind.__call__, "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def raised_at(error: BaseException) -> str:
    """Where an exception came up, and who called that: ``a.py:10 in f, called from b.py:20 in g``.

    The first is the innermost frame in the user's own code, or else the innermost of all; the
    second is the outermost that is not the bridge's, mostly that of the handler. Empty if neither
    is known. At most :data:`PLACE` characters.
    """
    called = list(_each(error.__traceback__))  # looked at from its ends: it may be a thousand long
    first = next((each for each in called if not _is_machinery(each.tb_frame)), None)
    if first is None:
        return ""
    inner = next((each for each in reversed(called) if _is_users(each.tb_frame)), called[-1])
    at = _spot(inner)
    if inner is not first:
        at += f", called from {_spot(first)}"
    return at.encode("utf-8", "replace").decode()  # a file's name may be no Unicode


PLACE: Final = 2 * 300 + 14
"""Characters of where an exception came up, at most."""


def _spot(frames: TracebackType) -> str:
    code = frames.tb_frame.f_code
    at = f":{frames.tb_lineno} in {code.co_name[:80]}"
    file = code.co_filename
    room = 300 - len(at)
    return f"{file if len(file) <= room else '…' + file[1 - room :]}{at}"


def _is_users(frame: FrameType) -> bool:
    """Whether a frame is neither of Python or an installed package, nor of the bridge."""
    module = str(frame.f_globals.get("__name__", ""))
    # A compiled module of ours names its file from wherever it was built.
    return not (
        module.startswith("bridge.") or frame.f_code.co_filename.startswith(("<", *_INSTALLED))
    )


def place(error: BaseException) -> str:
    """Where an exception was raised, as ``file:line`` of its innermost frame; empty if unknown."""
    frames = None
    for frames in _each(error.__traceback__):  # noqa: B007 - the last one is wanted
        pass
    return "" if frames is None else f"{frames.tb_frame.f_code.co_filename}:{frames.tb_lineno}"


_INSTALLED: Final = tuple(
    {
        path
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_paths().get(name))
    }
)


def users_place(error: BaseException) -> str:
    """Where in a user's own files an exception came up: ``file:line``; empty if in none of them.

    That is the innermost frame outside of Python, of installed packages and of the bridge. Of a
    SyntaxError it is the place in the file that cannot be read. Files below the current directory
    are named from there.
    """
    found = None
    if isinstance(error, SyntaxError) and error.filename:
        found = error.filename, error.lineno or 1
    else:
        for frames in _each(error.__traceback__):
            if _is_users(frames.tb_frame):
                found = frames.tb_frame.f_code.co_filename, frames.tb_lineno
    if found is None:
        return ""
    file, line = found
    with contextlib.suppress(OSError, ValueError):
        file = str(Path(file).relative_to(Path.cwd()))
    return f"{file}:{line}"


def _each(frames: TracebackType | None) -> Iterator[TracebackType]:
    while frames is not None:
        yield frames
        frames = frames.tb_next


def _is_machinery(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_MACHINERY)


def _unwrapped(function: Any) -> Any:
    try:
        while isinstance(function, partial):
            function = function.func
        return inspect.unwrap(function)
    except Exception:  # noqa: BLE001 - a wrapper of the user's own, or one that wraps itself
        return function
