"""A message to stations is written down once, with types that can travel."""

from typing import Any

import msgspec
import pytest

from bridge import DataTransferRequest, HandlerError, StationMessage


class Odd: ...


class Text(msgspec.Struct):
    text: str


def test_it_makes_requests() -> None:
    message = StationMessage("com.acme", "ShowText", data=Text)
    assert message.request(Text("Hello")) == DataTransferRequest(
        "com.acme", "ShowText", Text("Hello")
    )
    assert StationMessage("com.acme").request() == DataTransferRequest("com.acme")


@pytest.mark.parametrize(
    ("arguments", "types", "told"),
    [
        (("v" * 256,), {}, "a vendorId is a string of at most 255 characters"),
        ((1,), {}, "a vendorId is a string"),
        (("v", "m" * 51), {}, "a messageId is a string of at most 50 characters"),
        (("v", "m"), {"data": Odd}, "msgspec cannot encode"),
        (("v", "m"), {"answer": Odd}, "<StationMessage 'v' 'm'> cannot be given"),
    ],
)
def test_what_cannot_travel_is_refused(arguments: Any, types: Any, told: str) -> None:
    with pytest.raises(HandlerError, match=told):
        StationMessage(*arguments, **types)
