"""Lifespans, middleware and inclusion: what is refused where they are written, with a sentence."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from bridge import Call, CallNext, HandlerError, RetryPolicy, Router
from bridge.routing.router import Routes


@pytest.fixture
def router() -> Router:
    return Router("com.acme")


async def nothing(call: Call) -> None: ...


async def through(call: Call, data: Any, call_next: CallNext) -> Any:
    return await call_next(call, data)


@asynccontextmanager
async def managed() -> AsyncIterator[int]:
    yield 1


async def generator() -> AsyncIterator[int]:
    yield 1


async def of_another(state: int) -> AsyncIterator[int]:
    yield state


async def without_yield() -> int:
    return 1


def plain_generator() -> Iterator[int]:
    yield 1


@contextmanager
def plain_manager() -> Iterator[int]:
    yield 1


async def of_two(first: int, second: int) -> AsyncIterator[int]:
    yield first + second


async def by_keyword(*, url: str) -> AsyncIterator[str]:
    yield url


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (without_yield, "without_yield has no yield"),
        (plain_generator, "plain_generator is not async"),
        (plain_manager, "plain_manager is not async"),
        (of_two, "of_two asks for 'second'"),
        (by_keyword, "by_keyword asks for 'url'"),
        (3, "3 is not a function"),
    ],
)
def test_what_can_be_no_lifespan_is_refused(router: Router, function: Any, told: str) -> None:
    with pytest.raises(HandlerError, match=told):
        router.lifespan(function)


def test_a_router_has_one_lifespan(router: Router) -> None:
    assert router.lifespan(managed) is managed
    with pytest.raises(
        HandlerError, match=r"generator and .*managed are both the lifespan of Rout"
    ):
        router.lifespan(generator)


def plain(call: Call, data: Any, call_next: Any) -> Any: ...
async def of_call_alone(call: Call) -> Any: ...
async def of_no_answer(call: Call, data: Any, call_next: CallNext) -> None: ...


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (plain, "plain is not an async def: a middleware is async def"),
        (of_call_alone, "of_call_alone cannot be given three arguments"),
        (of_no_answer, "of_no_answer says that it returns None, .*: write -> Any, and return awa"),
        (None, "None is not a function"),
    ],
)
def test_what_can_be_no_middleware_is_refused(router: Router, function: Any, told: str) -> None:
    with pytest.raises(HandlerError, match=told):
        router.middleware(function)


def test_a_middleware_stands_once_in_a_router(router: Router) -> None:
    assert router.middleware(through) is through
    with pytest.raises(HandlerError, match=r"through is a middleware of Router.* already"):
        router.middleware(through)


def test_handlers_with_nothing_around_them_are_those_of_the_router(router: Router) -> None:
    router.on("m")(nothing)
    (_, handler) = next(router.handlers())
    assert Routes([router]).resolve("com.acme", "m") is handler


def test_a_lifespan_that_asks_for_the_state_of_another_must_be_included(router: Router) -> None:
    router.lifespan(of_another)
    with pytest.raises(HandlerError, match="of_another asks for the state of a router that inclu"):
        Routes([router])


class Things:
    async def get(self, call: Call, data: int) -> int:
        return data


class State:
    """What a lifespan gives."""


class Other:
    """What none gives."""


async def giving() -> AsyncIterator[State]:
    yield State()


async def taking(call: Call[State]) -> None: ...
async def taking_another(call: "Call[Other]") -> None: ...
async def taking_none(call: Call[None]) -> None: ...
async def from_other(state: Other) -> AsyncIterator[State]:
    yield State()


def test_a_state_that_a_handler_takes_is_given(router: Router) -> None:
    router.on("m")(taking)
    with pytest.raises(
        HandlerError, match=r"taking takes a Call\[State\], and Router.* has no life"
    ):
        Routes([router])
    router.lifespan(giving)
    router.on("Without")(taking_none)
    Routes([router])
    router.on("Another")(taking_another)
    with pytest.raises(HandlerError, match=r"takes a Call\[Other\], and .*giving gives State"):
        Routes([router])


class Odd(type):
    """A class of these cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]


class OddState(metaclass=Odd):
    """Such a state."""


async def taking_odd(call: Call[OddState]) -> None: ...
async def giving_odd() -> AsyncIterator[OddState]:
    yield OddState()


def test_a_state_of_a_class_without_a_hash_is_a_state_as_well(router: Router) -> None:
    router.lifespan(giving_odd)
    router.on("m")(taking_odd)
    Routes([router])


def test_a_middleware_may_give_another_state(router: Router) -> None:
    router.on("m")(taking_another)
    router.middleware(through)
    Routes([router])


def test_a_lifespan_that_says_no_type_may_give_any_state(router: Router) -> None:
    async def saying_nothing():  # type: ignore[no-untyped-def]  # noqa: ANN202
        yield State()

    router.lifespan(saying_nothing)
    router.on("m")(taking)
    Routes([router])


def test_a_lifespan_takes_the_state_that_the_including_one_gives(router: Router) -> None:
    inner = Router("com.acme")
    inner.lifespan(from_other)
    inner.on("m")(nothing)
    router.include(inner)
    router.lifespan(giving)
    with pytest.raises(
        HandlerError, match=r"from_other takes the state Other, and .*giving gives State"
    ):
        Routes([router])


def test_a_method_needs_a_lifespan_that_makes_its_object(router: Router) -> None:
    assert router.method("Get")(Things.get) is Things.get
    with pytest.raises(HandlerError, match=r"Things.get is a method, and Router.* has no lifespan"):
        Routes([router])


def test_a_default_method_has_no_message(router: Router) -> None:
    with pytest.raises(HandlerError, match="a default handler has no messageId"):
        router.method("Get", default=True)
    router.method(default=True)(Things.get)
    assert [message for message, _ in router.handlers()] == [None]


def test_a_method_is_for_a_message_like_any_other(router: Router) -> None:
    with pytest.raises(
        HandlerError, match=r"write @router.method\(\) with parentheses above .*get"
    ):
        router.method(Things.get)  # type: ignore[arg-type]
    with pytest.raises(HandlerError, match="a messageId has at most 50 characters"):
        router.method("x" * 51)


def included(**options: Any) -> Router:
    router = Router("COM.acme", **options)
    router.on("m")(nothing)
    return router


def test_an_included_router_gives_its_handlers(router: Router) -> None:
    policy = RetryPolicy(attempts=2)
    outer = Router("com.acme", retry=policy, timeout=1)
    outer.include(included(timeout=3))
    (message, handler) = next(outer.handlers())
    assert (message, handler.timeout, handler.retry) == ("m", 3, policy)
    assert handler.function is nothing


def test_the_exceptions_of_the_including_router_mean_retry_for_all(router: Router) -> None:
    outer = Router("com.acme", retry=RetryPolicy(on=(OSError,)))
    outer.include(included(retry=RetryPolicy(attempts=2, on=(KeyError,))))
    (_, handler) = next(outer.handlers())
    assert handler.retry == RetryPolicy(attempts=2, on=(KeyError, OSError))


def twice(router: Router) -> None:
    other = included()
    router.include(other)
    router.include(other)


def same_message(router: Router) -> None:
    router.on("M")(nothing)
    router.include(included())


def same_default(router: Router) -> None:
    other = Router("com.acme")
    for each in (router, other):
        each.default(nothing)
    router.include(other)


def of_another_vendor(router: Router) -> None:
    router.include(Router("com.other"))


def with_a_queue(router: Router) -> None:
    router.include(Router("com.acme", partitions=4))


def in_itself(router: Router) -> None:
    other = included()
    other.include(router)
    router.include(other)


def too_late(router: Router) -> None:
    other = included()
    router.include(other)
    other.on("n")(nothing)


def no_router(router: Router) -> None:
    router.include(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inclusion", "told"),
    [
        (twice, "is included in Router.* already"),
        (same_message, "nothing and .*nothing both handle messageId 'm'"),
        (same_default, "are both the default handler"),
        (of_another_vendor, "it is for another vendor"),
        (with_a_queue, "partitions=4 is for the queue of a vendor"),
        (in_itself, "cannot be included in itself"),
        (too_late, "nothing comes too late: .* is included already"),
        (no_router, "int is not a Router"),
    ],
)
def test_what_cannot_be_included_is_refused(
    router: Router, inclusion: Callable[[Router], None], told: str
) -> None:
    with pytest.raises(HandlerError, match=told):
        inclusion(router)
