"""The way of a request as one chain: what takes it in, what guards it, what handles it.

    intake → guard → dispatcher          a worker's, for each queue
    intake → guard → stations            a gateway's

Where requests are traced, or a line is written for each, there are further steps between these.

Requests go down the chain by `next`; their outcomes come back up by `settle`. :func:`chain` sets
both, so that the order of the steps stands in one place. After that a message costs one call for
each step and direction: the attributes hold bound methods.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol, overload

from bridge.request.incoming import Request
from bridge.request.outcome import Outcome, Settle

Dispatch = Callable[[Request], None]


class Before(Protocol):
    """A step that passes requests on, and is told their outcomes."""

    next: Dispatch
    """Where it passes requests on to; set by :func:`chain`."""

    def settled(self, request: Request, outcome: Outcome) -> None:
        """Take the outcome of a request that was passed on: once for each, at once or later."""


class After(Protocol):
    """A step that is given requests, and tells their outcomes."""

    settle: Settle
    """Whom it tells the outcome of each request, exactly once; set by :func:`chain`."""

    def dispatch(self, request: Request) -> None:
        """Take a request. Never raises."""


class Between(Before, After, Protocol):
    """A step with a neighbour on either side."""


@overload
def chain(first: Before, last: After, /) -> None: ...


@overload
def chain(first: Before, between: Between, last: After, /) -> None: ...


@overload
def chain(first: Before, /, *further: After) -> None: ...


def chain(*steps: Any) -> None:
    """Join the steps, from the one that takes requests in to the one that handles them."""
    for step, following in pairwise(steps):
        step.next = following.dispatch
        following.settle = step.settled
