"""What handlers and messages to stations say of what travels."""

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from bridge import Call, Router
from bridge.routing.station_message import ToStation
from bridge.schema.messages import NO_DATA, VendorMessage, vendor_messages
from bridge.vendors import easee, plug_and_charge
from tests.unit.schema import workshop


def told(message_id: str | None, *, to_station: bool = False) -> VendorMessage:
    messages = vendor_messages([workshop.router], workshop.to_stations)
    [found] = [
        each for each in messages if (each.message_id, each.to_station) == (message_id, to_station)
    ]
    return found


def test_a_handler_tells_the_types_of_its_data_and_of_its_answer() -> None:
    assert told("GetTariff") == VendorMessage(
        vendor_id="com.Acme",
        message_id="GetTariff",
        to_station=False,
        data=workshop.TariffQuery,
        required=True,
        answer=workshop.Tariff,
        description="Says what a kWh costs.",
        timeout=5.0,
    )


def test_data_is_required_unless_there_is_a_default_or_none_is_taken() -> None:
    assert not told("Note").required
    assert not told(None).required
    assert told(None).data == msgspec.Raw | None


def test_a_handler_without_data_and_answer_has_neither() -> None:
    ping = told("")
    assert (ping.data, ping.required, ping.answer) == (NO_DATA, False, NO_DATA)


def test_whoever_makes_the_response_itself_may_answer_anything() -> None:
    assert told("Whole").answer is Any


def test_a_message_to_stations_tells_what_is_sent_and_what_comes_back() -> None:
    shown = told("ShowText", to_station=True)
    assert (shown.data, shown.required, shown.answer) == (workshop.Text, True, workshop.Shown)
    assert shown.description == "Shows a text on the display."
    restart = told("Restart", to_station=True)
    assert (restart.data, restart.required, restart.answer) == (NO_DATA, False, NO_DATA)


def test_nothing_is_known_of_what_a_decorator_makes_of_an_answer() -> None:
    def doubled(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(call: Call, data: int) -> Any:
            return 2 * await function(call, data)

        return wrapper

    async def count(call: Call, data: int) -> int:
        return data

    router = Router("com.acme")
    router.on("Count")(doubled(count))
    [message] = vendor_messages([router])
    assert (message.data, message.answer) == (int, Any)


def test_a_method_and_an_object_that_can_be_called_are_handlers_like_others() -> None:
    router = Router("com.acme")

    class Thing:
        @router.method("Get")
        async def get(self, call: Call, data: str) -> int:
            """Gets it."""
            return 1

        def __call__(self, call: Call) -> str:
            """Is of the class, not of the handler."""
            return ""

    router.on("Call")(Thing())
    get, call = vendor_messages([router])
    assert (get.data, get.answer, get.description) == (str, int, "Gets it.")
    assert (call.data, call.answer, call.description) == (NO_DATA, str, "")


def test_commands_of_vendor_packs_are_messages_to_stations() -> None:
    commands = [each for each in vars(plug_and_charge).values() if isinstance(each, ToStation)]
    told = {each.message_id: each.data for each in vendor_messages([], commands)}
    assert told["TriggerMessage"] is dict
    assert told["CertificateSigned"] is plug_and_charge.CertificateSignedRequest


def test_data_with_a_form_of_its_own_is_text_on_its_way() -> None:
    [message] = vendor_messages([], [easee.list_sessions])
    assert message.data is str
