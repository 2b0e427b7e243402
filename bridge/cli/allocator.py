"""The memory allocator of a process that moves large bodies.

glibc takes each block above a threshold from the kernel and gives it back when it is freed, and
hands back free memory at the end of its heap. A body of 200 kB has its pages mapped, cleared and
unmapped then for each of its copies, which costs more than to read it.
"""

import ctypes
import os
from typing import Final

KEPT: Final = 32 * 1024 * 1024
"""Bytes of a block up to which it comes from the heap, and bytes of free memory at the heap's end
that are kept; glibc takes no larger threshold."""

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""What mallopt(3) sets, by its numbers in glibc's ``malloc.h``."""
_OPERATOR: Final = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
"""Environment variables by which somebody has chosen already (mallopt(3), and the glibc manual)."""


def keep_memory() -> bool:
    """Have freed memory used again by this process, up to :data:`KEPT`.

    Returns whether the C library does so: one without ``mallopt`` is left as it is, and so is a
    choice in the environment.
    """
    if any(name in os.environ for name in _OPERATOR):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have none, Windows no CDLL(None)
        return False
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt.restype = ctypes.c_int
    return all(mallopt(option, KEPT) == 1 for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
