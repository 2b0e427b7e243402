"""Easee's sessions, in its own writing."""

import datetime as dt

import pytest

from bridge.vendors import easee
from tests.unit.vendors.tables import Form, Row, Sent, missing, played

START = dt.datetime(2021, 3, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))
PERIOD = easee.Period(START, dt.datetime(2021, 3, 8, tzinfo=dt.UTC))
SENT = "\"{start:'2021-03-01T00:00:00.000Z',stop:'2021-03-08T00:00:00.000Z'}\""
SESSION = easee.Session(
    1,
    "AF18EE010486FF3E",
    12345,
    dt.datetime(2021, 3, 2, 13, 22, 31, 456_000, dt.UTC),
    32,
    13345,
    dt.datetime(2021, 3, 2, 21, 16, 33, 333_000, dt.UTC),
)
ANSWER = (
    "[{connectorId:1,idTag:'AF18EE010486FF3E',meterStart:12345,start:'2021-03-02T13:22:31.456Z',"
    "meterStop:13345,stop:'2021-03-02T21:16:33.333Z',sequenceNumber:32}]"
)

ROWS: list[Row] = [
    Sent(name="OverrideSchedule", command=easee.override_schedule),
    Sent(
        name="ListEaseeSessions",
        command=easee.list_sessions,
        data=PERIOD,
        wire=SENT,
        answer=f'"{ANSWER}"',
        read=easee.Sessions([SESSION]),
    ),
    Sent(
        name="ListEaseeSessions, with backslashes and blanks",
        command=easee.list_sessions,
        data=PERIOD,
        wire=SENT,
        answer='"{}"'.format(ANSWER.replace("'", "\\\\'").replace(":1,", " : 1, ")),
        read=easee.Sessions([SESSION]),
    ),
    Sent(
        name="ListEaseeSessions, proper JSON, numbers as text",
        command=easee.list_sessions,
        data=PERIOD,
        wire=SENT,
        answer=f'[{{"connectorId":"1","idTag":"{SESSION.id_tag}","meterStart":12345,'
        '"start":"2021-03-02T13:22:31.456Z","meterStop":13345.0,'
        '"stop":"2021-03-02T21:16:33.333Z","sequenceNumber":32}]',
        read=easee.Sessions([SESSION]),
    ),
    Sent(
        name="ListEaseeSessions, none",
        command=easee.list_sessions,
        data=PERIOD,
        wire=SENT,
        answer='"[]"',
        read=easee.Sessions([]),
    ),
    Sent(
        name="ListEaseeSessions, a session without its number",
        command=easee.list_sessions,
        data=PERIOD,
        answer="\"[{connectorId:1,idTag:'A',meterStart:1,start:'2021-03-02T13:22:31Z'}]\"",
        fault="sequenceNumber",
    ),
    Sent(
        name="ListEaseeSessions, a quote that does not end",
        command=easee.list_sessions,
        data=PERIOD,
        answer='"[{idTag:\'A}]"',
        fault="the answer's data",
    ),
    Sent(
        name="ListEaseeSessions, nested without end",
        command=easee.list_sessions,
        data=PERIOD,
        answer='"[{x:' + "[" * 5_000 + '"',
        fault="the answer's data",
    ),
    Sent(
        name="ListEaseeSessions, no answer",
        command=easee.list_sessions,
        data=PERIOD,
        fault="required",
    ),
    Sent(
        name="ImportEaseeSessions",
        command=easee.import_sessions,
        data=PERIOD,
        wire=SENT,
        answer='"whatever"',
        read="whatever",
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(easee, form)


def test_no_message_is_left_out() -> None:
    assert missing(easee, ROWS) == set()


@pytest.mark.parametrize(
    ("stop", "sentence"),
    [
        (START + dt.timedelta(days=31, seconds=1), "at most 31 days"),
        (START - dt.timedelta(seconds=1), "its stop comes later"),
        (dt.datetime(2021, 3, 8), "time zone"),  # noqa: DTZ001 - that is the mistake
    ],
)
def test_a_period_that_stations_refuse_is_none(stop: dt.datetime, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        easee.Period(START, stop)
