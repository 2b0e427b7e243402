"""The steps of a way, joined in one place."""

from bridge.request.chain import Dispatch, chain
from bridge.request.incoming import Request
from bridge.request.outcome import Late, Outcome, Settle
from tests.support import a_request


class First:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.next: Dispatch
        self.told: list[tuple[Request, Outcome]] = []

    def settled(self, request: Request, outcome: Outcome) -> None:
        self.told.append((request, outcome))


class Between(First):
    """Keeps what it is told, and passes on both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.settle: Settle
        self.given: list[Request] = []

    def dispatch(self, request: Request) -> None:
        self.given.append(request)
        self.next(request)

    def settled(self, request: Request, outcome: Outcome) -> None:
        super().settled(request, outcome)
        self.settle(request, outcome)


class Last:
    """Settles at once."""

    def __init__(self) -> None:
        self.settle: Settle

    def dispatch(self, request: Request) -> None:
        self.settle(request, Late())


def test_requests_go_down_the_chain_and_their_outcomes_come_back_up() -> None:
    first, between, last = First(), Between(), Last()
    chain(first, between, last)
    request = a_request()
    first.next(request)
    assert between.given == [request]
    assert between.told == first.told == [(request, Late())]


def test_a_step_that_is_not_wanted_is_left_out() -> None:
    first, last = First(), Last()
    chain(first, last)
    request = a_request()
    first.next(request)
    assert first.told == [(request, Late())]
