"""What stations write is read in a time that grows as its length does, and no faster."""

import enum
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pytest
from msgspec import Raw

from bridge.dialects.direct import is_direct_reply_to
from bridge.dialects.names import read_vendor_id, station_key, vendor_key
from bridge.dialects.web_ocpp import WebOcpp
from bridge.ocpp import CallError, FrameError, OcppVersion, decode_frame, decode_request
from bridge.ocpp.faults import describe_fault
from bridge.routing.data import data_reader
from bridge.routing.errors import InvalidData
from bridge.routing.router import fold
from bridge.transport import Delivery, Properties


class Mode(enum.Enum):
    FAST = "Fast"


class Quoting(msgspec.Struct):
    name: str

    def __post_init__(self) -> None:
        raise ValueError(f"unknown name {self.name}")


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""


class Nested(msgspec.Struct):
    mode: Mode


def _read(data_type: Any, form: Callable[[str], Any]) -> Callable[[str], None]:
    read = data_reader(data_type)

    def work(text: str) -> None:
        with pytest.raises(InvalidData) as refused:
            read(Raw(msgspec.json.encode(form(text))))
        assert len(str(refused.value)) <= 255

    return work


def _frame(text: str) -> None:
    for frame in (f'[2,"{text}"', msgspec.json.encode([2, text, text, text]), text):
        with pytest.raises(FrameError):
            decode_frame(frame, OcppVersion.V1_6)


def _payload(text: str) -> None:
    for fields in ({"vendorId": text}, {"vendorId": "v", text: 1}, {"vendorId": [text]}):
        body = msgspec.json.encode(fields)
        read_vendor_id(body)
        with pytest.raises(CallError):
            decode_request(body, OcppVersion.V1_6, strict=True)


def _names(text: str) -> None:
    fold(text)
    vendor_key(text)
    station_key(text)
    is_direct_reply_to(f"amq.rabbitmq.reply-to.{text}")
    delivery = Delivery("", text, False, Properties(), b"")
    WebOcpp().queue_of(delivery)


def _fault(text: str) -> None:
    for message in (
        text,
        f"{text}`",
        f"Expected `{text}`",
        f"Object contains unknown field `{text}`",
    ):
        assert len(describe_fault(msgspec.ValidationError(message), "data")[1]) <= 255


WORK: dict[str, Callable[[str], None]] = {
    "enum": _read(Mode, lambda text: text),
    "literal": _read(Literal["a", "b"], lambda text: text),
    "post_init": _read(Quoting, lambda text: {"name": text}),
    "unknown field": _read(Closed, lambda text: {text: 1}),
    "text in 1.6": _read(Nested, lambda text: msgspec.json.encode({"mode": text}).decode()),
    "no JSON in 1.6": _read(Nested, lambda text: text),
    "frame": _frame,
    "payload": _payload,
    "names": _names,
    "fault": _fault,
}


@pytest.mark.parametrize("piece", [" - at `$", "`, got `", "Expected `", "`", "ocpp1", "[", "A="])
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_twice_the_text_takes_no_more_than_twice_the_time(
    work: Callable[[str], None], piece: str
) -> None:
    def seconds(length: int) -> float:
        """The time of the processor for it, as it is when nothing else gets in the way."""
        text = piece * (length // len(piece))
        times = []
        for _ in range(3):
            began = time.thread_time()
            work(text)
            times.append(time.thread_time() - began)
        return min(times)

    # A slip of the machine is forgiven. What grows with the square takes 0.3 s for the first.
    assert seconds(64_000) <= 3 * seconds(32_000) + 0.1


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            "Invalid enum value ' - at `$.a`' - at `$.mode`",
            "data.mode: unknown value ' - at `$.a`'",
        ),
        ("Expected `int`, got `str` - at `$[0].a[...]`", "data[0].a[...]: expected an integer"),
        ("Object missing required field `name`", "data.name: required field is missing"),
        (f"Object contains unknown field `{'n' * 5000}`", f"data.{'n' * 250}"),
        (f"Invalid enum value '{'n' * 5000}' - at `$.mode`", "data.mode: unknown value 'nnn"),
    ],
)
def test_the_path_of_a_fault_is_the_last_one(fault: str, told: str) -> None:
    assert describe_fault(msgspec.ValidationError(fault), "data")[1].startswith(told)
