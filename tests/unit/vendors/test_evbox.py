"""EV-BOX's text, taken apart, and its messages."""

import time

import pytest

from bridge.vendors import evbox
from bridge.vendors.evbox import split_fields
from tests.unit.vendors.tables import Asked, Form, NotAnswered, Refused, Row, missing, played

CHARGING = (
    "1,Charging,NoError,No error.,1,Blue,1,{32,4800,53},{5120733,8410},{C,12140,6020,11970},0,0,"
    "401,2026-03-14T18:22:05Z,48213,78,{231,24,0,310,0,0,999,0,0},310,14,4,61,0,900,320,5004"
)
SHORTEST = "2,Available,NoError,,0,Green,1,{0,0,0},{730011,0},{A},0,0,0,,0"


def status(text: str) -> evbox.StatusNotification:
    return evbox.StatusNotification.from_text(text)


ROWS: list[Row] = [
    Asked(
        name="charging",
        message_id="evbStatusNotification",
        data=f'"{CHARGING}"',
        given=evbox.StatusNotification(
            1,
            "Charging",
            "NoError",
            "No error.",
            "Blue",
            5_120_733,
            8410,
            "C",
            "2026-03-14T18:22:05Z",
            48213,
            tuple(split_fields(CHARGING)),
        ),
    ),
    Asked(
        name="the fewest fields",
        message_id="evbStatusNotification",
        data=f'"{SHORTEST}"',
        given=status(SHORTEST),
    ),
    Refused(
        name="cut off",
        message_id="evbStatusNotification",
        data='"1,Charging,NoErr"',
        fault="data: expected 15 fields or more, got 3",
    ),
    Refused(
        name="an energy that is none",
        message_id="evbStatusNotification",
        data=f'"{SHORTEST.replace("730011", "full")}"',
        fault="no number",
    ),
    Refused(
        name="one energy alone",
        message_id="evbStatusNotification",
        data=f'"{SHORTEST.replace("{730011,0}", "730011")}"',
        fault="no number",
    ),
    Refused(
        name="an object", message_id="evbStatusNotification", data='{"a":1}', fault="15 fields"
    ),
    Refused(name="without data", message_id="evbStatusNotification", fault="required"),
    Asked(name="Wi-Fi", message_id="evbWifiStatusNotification", data='"7,Home"', given="7,Home"),
    Asked(
        name="a connection, an object as text",
        message_id="evbConnectionInfo",
        data='{"wifi":{"rssi":1}}',
        given='{"wifi":{"rssi":1}}',
    ),
    NotAnswered(
        name="answered",
        message_id="evbConnectionInfo",
        data='""',
        answer="ok",
        fault="does not allow it",
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(evbox, form)


def test_no_message_is_left_out() -> None:
    assert missing(evbox, ROWS) == set()


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", [""]),
        ("1,Charging,{32,22000,53}", ["1", "Charging", "{32,22000,53}"]),
        ("{1,{2,3}},,4", ["{1,{2,3}}", "", "4"]),
        ("{1,2", ["{1,2"]),
    ],
)
def test_commas_within_braces_separate_no_fields(text: str, fields: list[str]) -> None:
    assert split_fields(text) == fields


@pytest.mark.parametrize("text", ["x" * 2_000_000, "," * 2_000_000, "{" * 2_000_000])
def test_a_long_text_is_taken_apart_in_linear_time(text: str) -> None:
    started = time.process_time()
    assert ",".join(split_fields(text)) == text
    assert time.process_time() - started < 10
