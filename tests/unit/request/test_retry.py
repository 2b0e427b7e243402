"""When a request is tried again."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import Call, Retry, Router
from bridge.dialects.names import Names
from bridge.request.outcome import Failure, Reason, RetryLater
from bridge.request.retry import DELAYS, RetryPolicy, milliseconds, round_up
from tests.support import a_request, dispatched

NOW = 1_000_000.0


def pause(policy: RetryPolicy, attempt: int = 1, **given: Any) -> float | None:
    fields: dict[str, Any] = {
        "after": None,
        "now": NOW,
        "first_try": NOW,
        "deadline": None,
        "chance": lambda: 0.0,
    }
    return policy.pause(attempt, **(fields | given))


@pytest.mark.parametrize(
    ("policy", "pauses"),
    [
        (RetryPolicy(), [1.0, 2.5, 5.0, 10.0, None, None]),
        (RetryPolicy(attempts=1), [None]),
        (RetryPolicy(attempts=3, first=0.1), [0.1, 0.25, None]),
        (RetryPolicy(attempts=9, longest=4), [1.0, 2.5, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, None]),
        (RetryPolicy(attempts=5, factor=1), [1.0, 1.0, 1.0, 1.0, None]),
        (RetryPolicy(attempts=4, first=10, factor=6, longest=1_000), [10.0, 60.0, 300.0, None]),
        (RetryPolicy(attempts=3, first=0), [0.1, 0.1, None]),
        (RetryPolicy(attempts=3, longest=0), [0.1, 0.1, None]),
        (RetryPolicy(attempts=4, factor=1000, longest=math.inf), [1.0, 300.0, 300.0, None]),
    ],
)
def test_the_pauses_of_a_policy(policy: RetryPolicy, pauses: list[float | None]) -> None:
    assert [pause(policy, attempt) for attempt in range(1, len(pauses) + 1)] == pauses


def test_no_count_of_tries_is_too_much_to_reckon_with() -> None:
    policy = RetryPolicy(attempts=2**63, factor=1000, first=1e300)
    assert pause(policy, 2**63 - 1) == 60.0


@pytest.mark.parametrize(
    ("jitter", "chance", "expected"),
    [(0.5, 0.0, 10.0), (0.5, 0.99, 5.0), (1.0, 0.999, 0.1), (0.0, 0.99, 10.0)],
)
def test_jitter_shortens_a_pause_by_its_part_at_most(
    jitter: float, chance: float, expected: float
) -> None:
    policy = RetryPolicy(first=9.9, jitter=jitter)
    assert pause(policy, chance=lambda: chance) == expected


def test_jitter_leaves_the_handlers_own_wish_alone() -> None:
    assert pause(RetryPolicy(jitter=1.0), after=5, chance=lambda: 0.99) == 5.0


@pytest.mark.parametrize(
    ("after", "deadline", "expected"),
    [
        (1, NOW + 1.001, 1.0),
        (1, NOW + 1, None),
        (1, NOW + 0.999, None),
        (1, NOW - 1, None),
        (0.6, NOW + 0.9, None),  # the queue that is left has 1 s
        (0.5, NOW + 0.9, 0.5),
        (None, NOW + 1.001, 1.0),
        (None, NOW + 1, None),
    ],
)
def test_there_is_no_try_at_the_deadline_or_beyond(
    after: float | None, deadline: float, expected: float | None
) -> None:
    assert pause(RetryPolicy(), after=after, deadline=deadline) == expected


@pytest.mark.parametrize(
    ("age", "expected"), [(0.0, 10.0), (50.0, 10.0), (50.1, None), (1e9, None)]
)
def test_there_is_no_try_beyond_the_age(age: float, expected: float | None) -> None:
    assert pause(RetryPolicy(max_age=60), 2, after=10, first_try=NOW - age) == expected


@pytest.mark.parametrize(
    ("seconds", "delay"),
    [
        (0, 0.1),
        (0.1, 0.1),
        (0.1000001, 0.25),
        (1, 1.0),
        (1.1, 2.5),
        (30.5, 60.0),
        (300, 300.0),
        (301, 300.0),
        (1e9, 300.0),
    ],
)
def test_a_wait_is_rounded_up_to_a_queue_that_there_is(seconds: float, delay: float) -> None:
    assert round_up(seconds) == delay


def test_each_delay_has_its_queue() -> None:
    assert list(DELAYS) == sorted(set(DELAYS))
    assert [milliseconds(delay) for delay in DELAYS] == [
        100,
        250,
        500,
        1000,
        2500,
        5000,
        10000,
        30000,
        60000,
        300000,
    ]
    assert Names("acme").retry(0.25) == "acme.retry.250"


policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 10),
    first=st.floats(0, allow_infinity=True),
    factor=st.floats(1, 1000),
    longest=st.floats(0, allow_infinity=True),
    jitter=st.floats(0, 1),
    max_age=st.floats(0, allow_infinity=True),
)


@given(
    policies,
    st.integers(1, 12),
    st.none() | st.floats(0, 1e9),
    st.none() | st.floats(-1e9, 1e9),
    st.floats(0, 1e9),
    st.floats(0, 1, exclude_max=True),
)
def test_whatever_the_policy_a_pause_has_a_queue_and_ends_in_time(
    policy: RetryPolicy,
    attempt: int,
    after: float | None,
    left: float | None,
    age: float,
    chance: float,
) -> None:
    deadline = None if left is None else NOW + left
    delay = policy.pause(
        attempt, after=after, now=NOW, first_try=NOW - age, deadline=deadline, chance=lambda: chance
    )
    if delay is None:
        return
    assert delay in DELAYS
    assert attempt < policy.attempts
    assert deadline is None or NOW + delay < deadline
    assert NOW + delay - (NOW - age) <= policy.max_age
    assert after is None or delay >= min(after, DELAYS[-1])


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"attempts": math.nan},
        {"first": -0.1},
        {"first": math.nan},
        {"factor": 0.9},
        {"factor": math.nan},
        {"factor": math.inf},
        {"longest": -1.0},
        {"longest": math.nan},
        {"max_age": -1.0},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": math.nan},
        {"on": ConnectionError},
        {"on": [ConnectionError]},
        {"on": ("ConnectionError",)},
        {"on": (ConnectionError(),)},
        {"on": (KeyboardInterrupt,)},
    ],
    ids=str,
)
def test_a_policy_that_could_not_be_followed_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(fields))}\b"):
        RetryPolicy(**fields)


# ---- whose policy it is ----

ON_CONNECTION = RetryPolicy(first=0.1, jitter=0, on=(ConnectionError,))
NEVER = RetryPolicy(attempts=1)


async def raises(call: Call) -> None:
    raise ConnectionResetError("down")


async def retries(call: Call) -> None:
    raise Retry


class Csms:
    async def on_data_transfer(self, charging_station_id: str, request: object) -> Any:
        raise ConnectionResetError("down")


def registered(how: str, router_policy: RetryPolicy | None, own: RetryPolicy | None) -> Router:
    router = Router("v", retry=router_policy)
    match how:
        case "on":
            router.on("m", retry=own)(raises)
        case "default":
            router.default(retry=own)(raises)
        case "mount":
            router.mount(Csms(), retry=own)
    return router


@pytest.mark.parametrize("how", ["on", "default", "mount"])
@pytest.mark.parametrize(
    ("workers", "routers", "own", "tried_again"),
    [
        (None, None, None, False),
        (ON_CONNECTION, None, None, True),
        (None, ON_CONNECTION, None, True),
        (None, None, ON_CONNECTION, True),
        (ON_CONNECTION, NEVER, None, False),
        (ON_CONNECTION, NEVER, NEVER, False),
        (NEVER, NEVER, ON_CONNECTION, True),
    ],
)
async def test_a_handlers_policy_comes_before_its_routers_and_that_before_the_workers(
    how: str,
    workers: RetryPolicy | None,
    routers: RetryPolicy | None,
    own: RetryPolicy | None,
    tried_again: bool,
) -> None:
    outcome = await dispatched(registered(how, routers, own), a_request(), policy=workers)
    if tried_again:
        assert isinstance(outcome, RetryLater)
        assert (outcome.after, outcome.error) == (0.1, "ConnectionResetError: down")
    else:
        assert isinstance(outcome, Failure)
        assert outcome.reason is Reason.FAILED


@pytest.mark.parametrize("how", ["on", "default", "mount"])
async def test_what_a_router_says_means_retry_does_so_for_a_handler_with_a_policy_of_its_own(
    how: str,
) -> None:
    own = RetryPolicy(first=0.25, jitter=0, on=(LookupError,))
    router = registered(how, ON_CONNECTION, own)
    outcome = await dispatched(router, a_request())
    assert isinstance(outcome, RetryLater)
    assert outcome.after == 0.25, "all else is the handler's own"
    [(_, handler)] = router.handlers()
    assert handler.retry is not None
    assert handler.retry.on == (LookupError, ConnectionError)
    assert own.on == (LookupError,)


async def test_one_attempt_means_that_asking_for_another_is_in_vain() -> None:
    router = Router("v", retry=NEVER)
    router.on("m")(retries)
    outcome = await dispatched(router, a_request())
    assert isinstance(outcome, Failure)
    assert outcome.reason is Reason.RETRIES_EXHAUSTED
