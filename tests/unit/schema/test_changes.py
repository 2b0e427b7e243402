"""What changes from one document to another, and whom it breaks."""

import itertools
import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from bridge import Call, Router, StationMessage
from bridge.dialects.names import Names
from bridge.dialects.partitions import Partitions
from bridge.schema.asyncapi import Document, document
from bridge.schema.changes import Change, NoSchema, Whom, changes
from bridge.schema.messages import vendor_messages


def handled(data: Any = str, answer: Any = str, message_id: str | None = "Get") -> Router:
    """A router with one message of these types. `message_id`: None means the default handler."""

    async def handler(call: Call, data: Any) -> Any: ...

    handler.__annotations__ |= {"data": data, "return": answer}
    router = Router("com.acme")
    register: Any = router.default if message_id is None else router.on(message_id)
    register(handler)
    return router


def struct(**fields: Any) -> Any:
    """A class with these fields: a type each, or a type and a default."""
    return msgspec.defstruct(
        "Thing",
        [(name, *(each if isinstance(each, tuple) else (each,))) for name, each in fields.items()],
        module=f"m{next(_numbers)}",  # of one module, two of one name could not be told apart
    )


_numbers = itertools.count()


def made(*parts: Router | StationMessage, prefix: str = "datatransfer", **more: Any) -> Document:
    routers = [each for each in parts if isinstance(each, Router)]
    to_stations = [each for each in parts if isinstance(each, StationMessage)]
    messages = vendor_messages(routers, to_stations)
    found = document(messages, title="", version="", names=Names(prefix), **more)
    plain: Document = json.loads(json.dumps(found))
    return plain


def broken(found: list[Change]) -> list[str]:
    assert all(each.breaks in {Whom.STATIONS, None} for each in found)
    return [f"{each.where}: {each.text}" for each in found if each.breaks]


INT = struct(a=int)
OPTIONAL = struct(a=(int, 1))
BOTH = struct(a=int, b=int)
BOTH_OPTIONAL = struct(a=int, b=(int, 1))
FEW, MANY = struct(a=Literal["x"]), struct(a=Literal["x", "y"])
SHORT, LONG = (struct(a=Annotated[str, Meta(max_length=n)]) for n in (8, 9))


@pytest.mark.parametrize(
    ("old", "new", "in_request", "in_answer"),
    [
        (INT, BOTH, "b: new, and required", None),
        (INT, BOTH_OPTIONAL, None, None),
        (BOTH, INT, None, "b: gone"),
        (OPTIONAL, INT, "a: required now", None),
        (INT, OPTIONAL, None, "a: no longer always there"),
        (MANY, FEW, 'a: no longer "y"', None),
        (FEW, MANY, None, 'a: also "y" now'),
        (LONG, SHORT, "a: at most 8 characters now, at most 9 characters before", None),
        (SHORT, LONG, None, "a: at most 9 characters now, at most 8 characters before"),
        (struct(a=float), INT, "a: number before, integer now", None),
        (INT, struct(a=float), None, "a: integer before, number now"),
        (
            INT,
            struct(a=str),
            "a: integer before, string now",
            "a: integer before, string now",
        ),
        (INT, struct(a=int | None), None, "a: also null now"),
    ],
)
def test_stations_must_be_understood_as_before_and_told_nothing_new(
    old: Any, new: Any, in_request: str | None, in_answer: str | None
) -> None:
    to_csms = changes(made(handled(data=old)), made(handled(data=new)))
    assert to_csms
    assert broken(to_csms) == ([f"request data.{in_request}"] if in_request else [])
    answered = changes(made(handled(answer=old)), made(handled(answer=new)))
    assert answered
    assert broken(answered) == ([f"answer data.{in_answer}"] if in_answer else [])


def test_what_is_sent_to_stations_counts_the_other_way_round() -> None:
    def sent(data: Any, answer: Any) -> Document:
        return made(StationMessage("com.acme", "Show", data=data, answer=answer))

    assert broken(changes(sent(FEW, None), sent(MANY, None))) == ['request data.a: also "y" now']
    assert broken(changes(sent(MANY, None), sent(FEW, None))) == []
    assert broken(changes(sent(INT, MANY), sent(INT, FEW))) == ['answer data.a: no longer "y"']
    assert broken(changes(sent(INT, FEW), sent(INT, MANY))) == []


def test_data_that_is_gone_from_an_answer_breaks_stations() -> None:
    found = changes(made(handled(answer=INT)), made(handled(answer=None)))
    assert broken(found) == ["answer data: gone"]
    assert broken(changes(made(handled(answer=None)), made(handled(answer=INT)))) == []


def test_data_that_is_required_now_breaks_stations() -> None:
    found = changes(made(handled(data=INT | None)), made(handled(data=INT)))
    assert "request data: required now" in broken(found)


def test_a_message_that_is_gone_breaks_stations_and_a_new_one_nobody() -> None:
    one, two = handled(), handled()
    two.on("Put")(lambda call: None)
    [gone] = changes(made(two), made(one))
    assert str(gone) == "com.acme Put, message: gone: its answer is a refusal"
    assert gone.breaks is Whom.STATIONS
    [new] = changes(made(one), made(two))
    assert (str(new), new.breaks) == ("com.acme Put, message: new", None)


def test_a_message_that_stations_are_no_longer_sent_breaks_nobody() -> None:
    message = StationMessage("com.acme", "Show")
    [gone] = changes(made(message), made())
    assert (gone.text, gone.breaks) == ("no longer sent", None)


def test_the_handler_of_all_others_takes_a_message_that_is_gone() -> None:
    old = made(handled(INT))
    found = changes(old, made(handled(msgspec.Raw, message_id=None)))
    assert broken(found) == []
    assert broken(changes(old, made(handled(BOTH, message_id=None)))) == [
        "request data.b: new, and required"
    ]


def test_a_handler_of_its_own_must_take_what_that_of_all_others_took() -> None:
    old = handled(msgspec.Raw, message_id=None)
    new = handled(msgspec.Raw, message_id=None)
    new.on("Get")(next(iter(handled(INT).handlers()))[1].function)
    found = changes(made(old), made(new))
    assert broken(found) == [
        "request data: only the JSON text of an object Thing now",
        "request data: any value before, an object Thing now",
    ]


def test_the_case_of_letters_in_ids_does_not_count() -> None:
    old, new = Router("com.acme"), Router("COM.Acme")
    for router, message_id in ((old, "Get"), (new, "GET")):
        router.on(message_id)(lambda call: None)
    assert changes(made(old), made(new)) == []


def test_another_address_breaks_gateways() -> None:
    message = StationMessage("com.acme", "Show")
    found = changes(made(handled(), message), made(handled(), message, prefix="other"))
    assert {(each.where, each.text) for each in found if each.breaks is Whom.GATEWAYS} == {
        ("request", "exchange other now, datatransfer before"),
        ("request", "exchange other.stations now, datatransfer.stations before"),
    }
    assert all(each.breaks is not Whom.STATIONS for each in found)


def test_other_queues_are_no_business_of_gateways() -> None:
    new = made(handled(), partitions={"com.acme": Partitions(2)})
    [change] = changes(made(handled()), new)
    assert change.breaks is None
    assert change.text == (
        "queues datatransfer.com.acme:2.0, datatransfer.com.acme:2.1 now,"
        " datatransfer.com.acme before"
    )


def test_a_header_or_property_that_is_required_now_breaks_gateways() -> None:
    old, new = made(handled()), made(handled())
    for name in ("headers-RequestHeaders", "properties-RequestProperties"):
        new["components"]["schemas"][name].setdefault("required", []).append("x")
    found = changes(old, new)
    assert {(each.where, each.breaks) for each in found} == {
        ("request header x", Whom.GATEWAYS),
        ("request property x", Whom.GATEWAYS),
    }


def test_words_and_names_are_no_changes() -> None:
    thing = struct(a=int)
    thing.__doc__ = "Another text."
    other = msgspec.defstruct("Other", [("a", int)])
    assert changes(made(handled(INT)), made(handled(thing))) == []
    assert changes(made(handled(INT)), made(handled(other))) == []


BROKEN = made(handled())
BROKEN["components"]["messages"]["com.acme.Get.request.ocpp2"]["payload"]["properties"] = 1


@pytest.mark.parametrize(
    "old", [[], {}, {"channels": {}, "operations": {"x": {"action": "receive"}}}, BROKEN]
)
def test_a_document_of_another_kind_is_refused(old: Any) -> None:
    with pytest.raises(NoSchema):
        changes(old, made(handled()))
