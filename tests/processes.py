"""What the harnesses that start processes share: a child that ends when its parent does."""

import ctypes
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def end_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: the kernel sends the child this signal when the parent dies (prctl(2)).

    Only Linux does so; elsewhere nothing happens.
    """

    def ask_the_kernel() -> None:
        if sys.platform == "linux":
            _libc.prctl(_PR_SET_PDEATHSIG, number)

    return ask_the_kernel
