"""Which handler a request goes to, and which registrations fail at import."""

from typing import Any

import pytest

from bridge import Call, DataTransferRequest, DataTransferResponse, Router
from bridge.request.outcome import Reply
from bridge.routing.errors import HandlerError
from bridge.routing.handler import Handler
from bridge.routing.router import UNKNOWN_MESSAGE_REPLY, UNKNOWN_VENDOR_REPLY, Routes, fold
from bridge.testing import ask

KELVIN = "\u212a"
"""The Kelvin sign: `str.lower()` makes it an ASCII k."""


async def first(call: Call) -> str:
    return "first"


async def second(call: Call) -> str:
    return "second"


async def third(call: Call) -> str:
    return "third"


def resolved(routes: Routes, vendor_id: str, message_id: str | None) -> Any:
    found = routes.resolve(vendor_id, message_id)
    return found.function if isinstance(found, Handler) else found


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("com.ACME", "com.acme"),
        ("EN+ É", "en+ É"),
        (f"{KELVIN}elvin", f"{KELVIN}elvin"),
        ("İSTANBUL", "İstanbul"),
        ("straSSe ß", "strasse ß"),
        ("", ""),
    ],
)
def test_only_ascii_letters_are_folded(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_vendor_and_message_match_without_regard_to_the_case_of_ascii_letters() -> None:
    router = Router("com.Acme")
    router.on("SetTariff")(first)
    routes = Routes([router])
    for vendor_id in ("com.Acme", "COM.ACME", "com.acme"):
        for message_id in ("SetTariff", "SETTARIFF", "settariff"):
            assert resolved(routes, vendor_id, message_id) is first
    assert resolved(routes, "com.Acme.", "SetTariff") is UNKNOWN_VENDOR_REPLY
    assert resolved(routes, "com.Acme", "SetTariff ") is UNKNOWN_MESSAGE_REPLY


def test_the_kelvin_sign_is_not_the_letter_k() -> None:
    router = Router("k")
    router.on("k")(first)
    kelvin = Router(KELVIN)
    kelvin.on(KELVIN)(second)
    routes = Routes([router, kelvin])
    assert resolved(routes, "K", "K") is first
    assert resolved(routes, KELVIN, KELVIN) is second
    assert resolved(routes, "k", KELVIN) is UNKNOWN_MESSAGE_REPLY
    assert resolved(Routes([router]), KELVIN, "k") is UNKNOWN_VENDOR_REPLY


def test_no_message_id_has_its_own_handler_and_the_default_takes_the_rest() -> None:
    router = Router("v")
    router.on("m")(first)
    router.on()(second)
    routes = Routes([router])
    assert [resolved(routes, "v", message_id) for message_id in ("m", None, "", "x")] == [
        first,
        second,
        second,
        UNKNOWN_MESSAGE_REPLY,
    ]
    router.default(third)
    assert [resolved(Routes([router]), "v", message_id) for message_id in ("m", None, "", "x")] == [
        first,
        second,
        second,
        third,
    ]


def test_without_a_handler_for_no_message_id_the_default_takes_those_requests_too() -> None:
    router = Router("v")
    router.default(timeout=3.0)(third)
    assert resolved(Routes([router]), "v", None) is third
    assert next(router.handlers())[1].timeout == 3.0


def test_a_spelling_is_found_again_after_more_spellings_than_are_remembered() -> None:
    router = Router("v")
    router.default(first)
    routes = Routes([router])
    for number in range(10_000):
        assert resolved(routes, "v", str(number)) is first
    assert resolved(routes, "v", "0") is first
    assert len(routes._remembered) <= 4_096


def test_unknown_vendor_and_message_are_answered_without_data() -> None:
    routes = Routes([Router("v")])
    assert routes.resolve("w", "m") == Reply(b'{"status":"UnknownVendorId"}')
    assert routes.resolve("v", "m") == Reply(b'{"status":"UnknownMessageId"}')


def test_handlers_are_listed_with_the_spelling_they_were_registered_by() -> None:
    router = Router("v", timeout=7.0)
    router.on("SetTariff", timeout=1.0)(first)
    router.on()(second)
    router.default(third)
    listed = [
        (message, handler.function, handler.timeout) for message, handler in router.handlers()
    ]
    assert listed == [
        ("SetTariff", first, 1.0),
        ("", second, 7.0),
        (None, third, 7.0),
    ]
    assert repr(router) == "<Router 'v' messages=2 default=True>"


def test_registering_leaves_the_function_as_it_is() -> None:
    router = Router("v")
    assert router.on("m")(first) is first
    assert router.default(second) is second


@pytest.mark.parametrize(
    ("one", "other"), [("SetTariff", "SETTARIFF"), (None, None), (None, ""), ("", "")]
)
def test_two_handlers_for_one_message_are_refused_by_both_names(
    one: str | None, other: str | None
) -> None:
    router = Router("v")
    router.on(one)(first)
    with pytest.raises(HandlerError, match=r"second and .*first both handle"):
        router.on(other)(second)


def test_two_default_handlers_are_refused_by_both_names() -> None:
    router = Router("v")
    router.default(first)
    with pytest.raises(
        HandlerError, match=r"second and .*first are both the default handler of vendor 'v'"
    ):
        router.default(second)


def test_two_routers_for_one_vendor_are_refused() -> None:
    with pytest.raises(HandlerError, match=r"two routers for vendor 'COM\.ACME'"):
        Routes([Router("com.acme"), Router("COM.ACME")])


def test_a_decorator_without_its_parentheses_is_explained() -> None:
    with pytest.raises(HandlerError, match=r"write @router.on\(\) with parentheses above .*first"):
        Router("v").on(first)  # type: ignore[arg-type]


@pytest.mark.parametrize("vendor_id", ["v" * 256, None, 1])
def test_a_vendor_that_no_station_could_name_is_refused(vendor_id: Any) -> None:
    with pytest.raises(HandlerError, match="a vendorId is a string of at most 255 characters"):
        Router(vendor_id)


@pytest.mark.parametrize("vendor_id", ["", "🔌" * 255, "a.b.#.*", "EN+"])
def test_any_text_that_ocpp_allows_is_a_vendor(vendor_id: str) -> None:
    router = Router(vendor_id)
    router.default(first)
    assert resolved(Routes([router]), vendor_id, "m") is first


def test_a_message_that_no_station_could_name_is_refused() -> None:
    router = Router("v")
    router.on("é" * 50)(first)
    with pytest.raises(HandlerError, match="a messageId has at most 50 characters"):
        router.on("e" * 51)


@pytest.mark.parametrize("setting", ["prefetch", "concurrency", "threads", "partitions"])
def test_a_router_that_could_do_nothing_is_refused(setting: str) -> None:
    with pytest.raises(
        HandlerError, match=rf"{setting} of Router\('v'\) must be at least 1, not 0"
    ):
        Router("v", **{setting: 0})  # type: ignore[arg-type]  # the name is given at run time


@pytest.mark.parametrize("rate", [0, -1.0, float("inf"), float("nan")])
def test_a_rate_is_a_number_above_0(rate: float) -> None:
    with pytest.raises(HandlerError, match=r"rate of Router\('v'\) must be above 0"):
        Router("v", rate=rate)
    assert Router("v", rate=0.5).rate == 0.5


def test_a_router_with_too_many_partitions_is_refused() -> None:
    assert Router("v", partitions=64).partitions == 64
    with pytest.raises(HandlerError, match=r"partitions of Router\('v'\) must be at most 64"):
        Router("v", partitions=65)


# ---- mounted objects ----


class WaitingCsms:
    async def on_data_transfer(
        self, charging_station_id: str, request: DataTransferRequest
    ) -> DataTransferResponse:
        return DataTransferResponse(
            "Accepted", [charging_station_id, request.message_id, request.data]
        )


class PlainCsms:
    def on_data_transfer(
        self, charging_station_id: str, request: DataTransferRequest
    ) -> DataTransferResponse:
        return DataTransferResponse(
            "Accepted", [charging_station_id, request.message_id, request.data]
        )


class PlainThatWaits:
    def on_data_transfer(self, charging_station_id: str, request: DataTransferRequest) -> Any:
        return WaitingCsms().on_data_transfer(charging_station_id, request)


@pytest.mark.parametrize(
    "csms", [WaitingCsms(), PlainCsms(), PlainThatWaits()], ids=lambda csms: type(csms).__name__
)
async def test_a_csms_handler_is_given_the_station_and_the_whole_request(csms: Any) -> None:
    router = Router("v")
    router.on("own")(first)
    router.mount(csms, timeout=4.0)
    answer = await ask(router, "v", "m", {"a": None}, station_id="CP7")
    assert answer == DataTransferResponse("Accepted", ["CP7", "m", {"a": None}])
    assert (await ask(router, "v", "own")).data == "first"
    (_, handler) = list(router.handlers())[-1]
    assert handler.name.endswith(f"{type(csms).__name__}.on_data_transfer")
    assert handler.timeout == 4.0
    assert handler.type_name == "-"


def test_an_object_that_is_no_csms_handler_is_refused_by_name() -> None:
    with pytest.raises(HandlerError, match="object has no method on_data_transfer"):
        Router("v").mount(object())  # type: ignore[arg-type]
