"""How a worker's memory allocator is set: in a process of its own, for it cannot be set back."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from bridge.cli import allocator

GLIBC = platform.libc_ver()[0] == "glibc"

PROGRAM = """
import ctypes
from bridge.cli.allocator import keep_memory

class Info(ctypes.Structure):  # struct mallinfo2 of glibc's malloc.h
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]

mapped = ctypes.CDLL(None).mallinfo2
mapped.restype = Info
kept = keep_memory()
before = mapped().hblks
block = bytes(20 * 1024 * 1024)
print(kept, mapped().hblks - before)
"""


def blocks_mapped(**environment: str) -> str:
    """What the program says: whether memory is kept, and how many blocks 20 MiB have mapped."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=known | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_a_large_body_comes_from_memory_that_is_kept() -> None:
    assert blocks_mapped() == "True 0\n"


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_what_somebody_has_chosen_stays() -> None:
    assert blocks_mapped(MALLOC_MMAP_THRESHOLD_="131072") == "False 1\n"


def test_a_c_library_without_the_function_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MALLOC_", "GLIBC_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert allocator.keep_memory() is False
