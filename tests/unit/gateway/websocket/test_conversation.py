"""Frames in, decisions out: what a gateway answers, forwards, settles and ignores."""

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.gateway.websocket.conversation import (
    CALLS_AT_ONCE,
    Answer,
    Conversation,
    Decision,
    Forward,
    Ignored,
    Settled,
)
from bridge.ocpp import CallError, OcppVersion
from bridge.request.outcome import Kind, Reply

V16, V20, V201, V21 = OcppVersion
VERSIONS = [V16, V201, V21]
NOW = dt.datetime(2026, 3, 14, 18, 22, 5, tzinfo=dt.UTC)
MAX_PAYLOAD = 200
ID37 = "x" * 37


def conversation(version: OcppVersion = V201) -> Conversation:
    return Conversation(version, heartbeat=300, max_payload=MAX_PAYLOAD)


def receive(message: Any, version: OcppVersion = V201) -> Decision:
    text = message if isinstance(message, str | bytes) else json.dumps(message)
    return conversation(version).receive(text, NOW)


def answered(decision: Decision) -> list[Any]:
    assert isinstance(decision, Answer)
    frame = json.loads(decision.frame)
    assert isinstance(frame, list)
    return frame


# ---- CALLs from the station ----


@pytest.mark.parametrize("version", OcppVersion)
def test_a_heartbeat_is_answered(version: OcppVersion) -> None:
    assert answered(receive([2, "1", "Heartbeat", {}], version)) == [
        3,
        "1",
        {"currentTime": "2026-03-14T18:22:05.000Z"},
    ]


def test_what_a_station_tells_when_it_boots_is_kept_for_the_log() -> None:
    payload = {"chargePointVendor": "VendorX", "chargePointModel": "M"}
    decision = receive([2, "1", "BootNotification", payload], V16)
    assert isinstance(decision, Answer)
    assert (decision.action, decision.facts) == (
        "BootNotification",
        {"vendor": "VendorX", "model": "M"},
    )
    assert answered(decision)[2]["status"] == "Accepted"


def test_a_data_transfer_is_forwarded_byte_for_byte() -> None:
    message = (
        '[2, "19223201", "DataTransfer", {"vendorId":"v", "data": {"kWh" : 1e400, "b":null} } ]'
    )
    assert receive(message) == Forward(
        "19223201", b'{"vendorId":"v", "data": {"kWh" : 1e400, "b":null} }'
    )


@pytest.mark.parametrize("payload", ["null", "[]", '"text"', '{"vendorId":12}', "{}"])
def test_a_data_transfer_that_breaks_its_schema_is_the_bridges_to_answer(payload: str) -> None:
    assert receive(f'[2,"1","DataTransfer",{payload}]') == Forward("1", payload.encode())


def test_a_binary_message_is_read_as_text_is() -> None:
    assert receive(b'[2,"1","DataTransfer",{"vendorId":"v"}]') == Forward("1", b'{"vendorId":"v"}')


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("action", "code", "text"),
    [
        ("MeterValues", "NotSupported", "MeterValues is not supported"),
        ("Reset", "NotSupported", "Reset is not supported"),
        ("Fly", "NotImplemented", "Fly is not known"),
        ("heartbeat", "NotImplemented", "heartbeat is not known"),
        ("", "NotImplemented", " is not known"),
        ("F" * 1000, "NotImplemented", "F" * 60 + " is not known"),
    ],
)
def test_an_action_without_an_answer_is_not_supported_if_ocpp_has_it_and_else_not_implemented(
    version: OcppVersion, action: str, code: str, text: str
) -> None:
    assert answered(receive([2, "1", action, {}], version)) == [4, "1", code, text, {}]


def test_whether_ocpp_has_an_action_is_a_matter_of_the_version() -> None:
    assert answered(receive([2, "1", "StartTransaction", {}], V16))[2] == "NotSupported"
    assert answered(receive([2, "1", "StartTransaction", {}], V201))[2] == "NotImplemented"
    assert answered(receive([2, "1", "BatterySwap", {}], V201))[2] == "NotImplemented"
    assert answered(receive([2, "1", "BatterySwap", {}], V21))[2] == "NotSupported"


@pytest.mark.parametrize(
    ("version", "code"),
    [(V16, "OccurenceConstraintViolation"), (V21, "OccurrenceConstraintViolation")],
)
def test_a_local_payload_that_breaks_its_schema_is_refused_in_the_spelling_of_the_version(
    version: OcppVersion, code: str
) -> None:
    frame = answered(receive([2, "1", "BootNotification", {}], version))
    assert frame[:3] == [4, "1", code]
    assert frame[3].endswith("required field is missing")


# ---- invalid frames: OCPP-J 1.6, 2.0.1 and 2.1 §4 ----

NOTHING = Ignored.BROKEN
BROKEN_16, BROKEN_2 = [4, "-1", "FormationViolation"], [4, "-1", "RpcFrameworkError"]
WRONG_16, WRONG_2 = [4, "1", "FormationViolation"], [4, "1", "RpcFrameworkError"]
LONG_16, LONG_2 = [4, ID37, "FormationViolation"], [4, ID37, "RpcFrameworkError"]
UNKNOWN = [4, "1", "MessageTypeNotSupported"]
MALFORMED: list[tuple[str | bytes, Any, Any, Any]] = [
    # message, decision in 1.6, in 2.0.1, in 2.1; a list is the start of the answer
    ("hello", BROKEN_16, BROKEN_2, BROKEN_2),
    ("", BROKEN_16, BROKEN_2, BROKEN_2),
    ("{}", BROKEN_16, BROKEN_2, BROKEN_2),
    ("[]", BROKEN_16, BROKEN_2, BROKEN_2),
    ("[2]", BROKEN_16, BROKEN_2, BROKEN_2),
    ("null", BROKEN_16, BROKEN_2, BROKEN_2),
    (b"\x00\xff\xfe", BROKEN_16, BROKEN_2, BROKEN_2),
    ("[" * 100_000, BROKEN_16, BROKEN_2, BROKEN_2),
    (f'[2,"{ID37}","Heartbeat",{{}}]', LONG_16, LONG_2, LONG_2),
    ('[2,"1","DataTransfer",{"vendorId":"v"', WRONG_16, WRONG_2, WRONG_2),
    ('[2,"1","DataTransfer",{"vendorId":"v"}]\0', WRONG_16, WRONG_2, WRONG_2),
    (r'[2,"1","DataTransfer",{"data":"\ud800"}]', WRONG_16, WRONG_2, WRONG_2),
    ('[2,"1","DataTransfer",' + "[" * 100_000, WRONG_16, WRONG_2, WRONG_2),
    ('["2","1","Heartbeat",{}]', [4, "1", "ProtocolError"], UNKNOWN, UNKNOWN),
    ('[3,"1",{"status":"Accepted"', NOTHING, NOTHING, NOTHING),
    ('[3,"1",{"status":"Accepted"}]\0', NOTHING, NOTHING, NOTHING),
    ('[4,"1","GenericError","', NOTHING, NOTHING, NOTHING),
    ('[2,7,"Heartbeat",{}]', BROKEN_16, BROKEN_2, BROKEN_2),
    ('[2,"1","Heartbeat"]', WRONG_16, WRONG_2, WRONG_2),
    ('[2,"1","Heartbeat",{},{}]', WRONG_16, WRONG_2, WRONG_2),
    ('[2,"1",5,{}]', WRONG_16, WRONG_2, WRONG_2),
    ('[9,"1","Heartbeat",{}]', NOTHING, UNKNOWN, NOTHING),
    ('[5,"1","GenericError","",{}]', NOTHING, UNKNOWN, Ignored.CALL_RESULT_ERROR),
    ('[6,"1","NotifyPeriodicEventStream",{}]', NOTHING, UNKNOWN, Ignored.SEND),
    ('[6,"1"]', NOTHING, UNKNOWN, NOTHING),
    ('[3,"1"]', NOTHING, NOTHING, NOTHING),
    (f'[3,"{ID37}",{{}}]', NOTHING, NOTHING, NOTHING),
    ('[4,"1"]', NOTHING, NOTHING, NOTHING),
    ('[3,"1",{}]', Ignored.LATE, Ignored.LATE, Ignored.LATE),
    ('[4,"1","GenericError","",{}]', Ignored.LATE, Ignored.LATE, Ignored.LATE),
]


@pytest.mark.parametrize(
    ("message", "in_16", "in_201", "in_21"), MALFORMED, ids=lambda value: repr(value)[:30]
)
def test_a_malformed_frame_gets_what_ocpp_j_asks_for(
    message: str | bytes, in_16: Any, in_201: Any, in_21: Any
) -> None:
    for version, expected in zip(VERSIONS, (in_16, in_201, in_21), strict=True):
        decision = receive(message, version)
        if isinstance(expected, Ignored):
            assert decision is expected
        else:
            frame = answered(decision)
            assert frame[:3] == expected
            assert frame[3]
            assert frame[4] == {}


# ---- several CALLs at a time ----


def data_transfer(message_id: str) -> str:
    return json.dumps([2, message_id, "DataTransfer", {"vendorId": "v"}])


def test_calls_that_do_not_await_their_answers_are_refused_above_a_limit() -> None:
    talk = conversation()
    for number in range(CALLS_AT_ONCE):
        assert isinstance(talk.receive(data_transfer(str(number)), NOW), Forward)
    refused = answered(talk.receive(data_transfer("more"), NOW))
    assert refused[:3] == [4, "more", "GenericError"]
    assert answered(talk.receive('[2,"h","Heartbeat",{}]', NOW))[0] == 3, (
        "what the bridge has no part in is answered"
    )
    talk.reply("0", Reply(b"{}"))
    assert isinstance(talk.receive(data_transfer("more"), NOW), Forward)


def test_a_message_id_that_is_in_hand_is_an_error_and_in_2_1_a_retry() -> None:
    another = '[2,"1","DataTransfer",{"vendorId":"w"}]'
    for version, code in ((V16, "GenericError"), (V201, "RpcFrameworkError")):
        talk = conversation(version)
        talk.receive(data_transfer("1"), NOW)
        assert answered(talk.receive(another, NOW))[:3] == [4, "1", code]
    talk = conversation(V21)
    talk.receive(data_transfer("1"), NOW)
    assert talk.receive(another, NOW) is Ignored.REPEATED
    talk.reply("1", Reply(b"{}"))
    assert isinstance(talk.receive(data_transfer("1"), NOW), Forward)


@pytest.mark.parametrize("version", OcppVersion)
def test_a_call_that_comes_again_as_it_was_is_ignored_and_one_answer_serves_both(
    version: OcppVersion,
) -> None:
    talk = conversation(version)
    assert isinstance(talk.receive(data_transfer("1"), NOW), Forward)
    for _ in range(CALLS_AT_ONCE + 1):
        assert talk.receive(data_transfer("1"), NOW) is Ignored.REPEATED
    assert json.loads(talk.reply("1", Reply(b"{}"))) == [3, "1", {}]
    assert isinstance(talk.receive(data_transfer("1"), NOW), Forward), "after the answer it is new"


def test_a_message_type_written_with_a_point_is_the_same_number() -> None:
    assert receive('[2.0,"1","DataTransfer",{"n": 1e400}]') == Forward("1", b'{"n": 1e400}')
    assert answered(receive('[2.0,"1","Heartbeat",{}]'))[:2] == [3, "1"]


# ---- replies from the bridge ----


def test_a_reply_goes_to_the_station_byte_for_byte() -> None:
    frame = conversation().reply("1", Reply(b'{"status":"Accepted","data":{"kWh" : 1e400}}'))
    assert frame == b'[3,"1",{"status":"Accepted","data":{"kWh" : 1e400}}]'


@pytest.mark.parametrize(
    ("version", "code"), [(V16, "FormationViolation"), (V201, "FormatViolation")]
)
def test_an_error_of_the_bridge_is_a_callerror(version: OcppVersion, code: str) -> None:
    body = b'{"errorCode":"FormatViolation","errorDescription":"why","errorDetails":{"a":1}}'
    assert json.loads(conversation(version).reply("1", Reply(body, Kind.CALL_ERROR))) == [
        4,
        "1",
        code,
        "why",
        {"a": 1},
    ]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b""),
        Reply(b"{"),
        Reply(b'{"status":"Accepted"},4'),
        Reply(b'{"status":"\xff"}'),
        Reply(b'{"data":"%b"}' % (b"x" * MAX_PAYLOAD)),
        Reply(b"nonsense", Kind.CALL_ERROR),
        Reply(b"[]", Kind.CALL_ERROR),
    ],
)
def test_a_reply_that_cannot_be_sent_is_told_and_another_can_be_given(reply: Reply) -> None:
    talk = conversation()
    talk.receive(data_transfer("1"), NOW)
    with pytest.raises(ValueError, match=r"."):
        talk.reply("1", reply)
    assert talk.receive(data_transfer("1"), NOW) is Ignored.REPEATED, "it is still in hand"
    assert json.loads(talk.reply("1", Reply(b"{}"))) == [3, "1", {}]
    assert isinstance(talk.receive(data_transfer("1"), NOW), Forward)


# ---- CALLs to the station ----


def test_a_call_to_the_station_is_settled_by_the_answer_with_its_id_alone() -> None:
    talk = conversation()
    call = json.loads(talk.call(b'{"vendorId":"v"}'))
    assert call[0] == 2
    assert len(call[1]) <= 36
    assert call[2:] == ["DataTransfer", {"vendorId": "v"}]
    assert talk.receive('[3,"other",{}]', NOW) is Ignored.LATE
    answer = json.dumps([3, call[1], {"status": "Accepted"}])
    assert talk.receive(answer, NOW) == Settled(Reply(b'{"status": "Accepted"}'))
    assert talk.receive(answer, NOW) is Ignored.LATE


def test_a_callerror_of_the_station_is_a_reply_too() -> None:
    talk = conversation(V16)
    call = json.loads(talk.call(b"{}"))
    decision = talk.receive(
        json.dumps([4, call[1], "OccurenceConstraintViolation", "why", {"a": 1}]), NOW
    )
    assert isinstance(decision, Settled)
    assert decision.reply.kind is Kind.CALL_ERROR
    assert json.loads(decision.reply.body) == {
        "errorCode": "OccurenceConstraintViolation",
        "errorDescription": "why",
        "errorDetails": {"a": 1},
    }


@pytest.mark.parametrize(
    "details", ["", ',"why"', ',"why",null', ',"why",[]', ',"why","text"', ",null,{}", ",null"]
)
@pytest.mark.parametrize("code", ["E-17", "RpcFrameworkError", "GenericError"])
def test_code_and_text_of_a_callerror_are_kept_whatever_stands_beside_them(
    code: str, details: str
) -> None:
    talk = conversation(V16)
    call = json.loads(talk.call(b"{}"))
    decision = talk.receive(f'[4,"{call[1]}","{code}"{details}]', NOW)
    assert isinstance(decision, Settled)
    assert decision.complaint == b""
    assert json.loads(decision.reply.body) == {
        "errorCode": code,
        "errorDescription": "why" if "why" in details else "",
        "errorDetails": {},
    }


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize(
    "broken",
    [
        '[3,"{id}"]',
        '[4,"{id}"]',
        '[3,"{id}",{{}},1]',
        '[3,"{id}",{{"status":"Accepted"',
        '[3,"{id}",{{"status":"Accepted"}}]\0',
        r'[3,"{id}",{{"status":"Accepted","data":"\ud800"}}]',
        '["3","{id}",{{"status":"Accepted"}}]',
        '[4,"{id}","GenericError","',
        '[4,"{id}",null,"",{{}}]',
        '[9,"{id}",{{}}]',
    ],
)
def test_a_broken_answer_ends_the_wait_at_once(broken: str, version: OcppVersion) -> None:
    talk = conversation(version)
    call = json.loads(talk.call(b"{}"))
    decision = talk.receive(broken.format(id=call[1]), NOW)
    assert isinstance(decision, Settled)
    assert bool(decision.complaint) == (version is V21 and broken.startswith("[3"))
    assert decision.reply.kind is Kind.CALL_ERROR
    assert b"the station's answer is broken" in decision.reply.body


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ("", "RpcFrameworkError"),
        (',{"status":"Accepted"', "RpcFrameworkError"),
        (',{"status":"Accepted"}]\0', "RpcFrameworkError"),
        (",{}]", "OccurrenceConstraintViolation"),
        (",null]", "TypeConstraintViolation"),
        (',{"status":"Perhaps"}]', "PropertyConstraintViolation"),
    ],
)
def test_an_invalid_callresult_is_answered_with_a_callresulterror_in_2_1_alone(
    rest: str, code: str
) -> None:
    for version in OcppVersion:
        talk = conversation(version)
        call = json.loads(talk.call(b"{}"))
        decision = talk.receive(f'[3,"{call[1]}"{rest}', NOW)
        assert isinstance(decision, Settled)
        if version is V21:
            complaint = json.loads(decision.complaint)
            assert complaint[:3] == [5, call[1], code]
            assert complaint[3]
            assert complaint[4] == {}
        else:
            assert decision.complaint == b""


def test_what_the_station_said_goes_to_the_csms_even_if_2_1_calls_it_invalid() -> None:
    talk = conversation(V21)
    call = json.loads(talk.call(b"{}"))
    decision = talk.receive(f'[3,"{call[1]}",{{"status":"Perhaps"}}]', NOW)
    assert isinstance(decision, Settled)
    assert decision.reply == Reply(b'{"status":"Perhaps"}')


def test_the_longest_payload_is_sent_in_both_directions_and_one_byte_more_is_not() -> None:
    longest = b'"%b"' % (b"x" * (MAX_PAYLOAD - 2))
    talk = conversation()
    assert json.loads(talk.call(longest))[3] == json.loads(longest)
    assert json.loads(talk.reply("1", Reply(longest)))[2] == json.loads(longest)
    more = longest[:-1] + b'x"'
    with pytest.raises(CallError, match=f"{MAX_PAYLOAD + 1} bytes, and at most {MAX_PAYLOAD}"):
        talk.call(more)
    with pytest.raises(ValueError, match=f"{MAX_PAYLOAD + 1} bytes, and at most {MAX_PAYLOAD}"):
        talk.reply("1", Reply(more))


def test_a_payload_that_is_nested_too_deeply_is_told() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    talk = Conversation(V201, heartbeat=300, max_payload=len(deep))
    with pytest.raises(CallError, match="payload: not valid JSON"):
        talk.call(deep)
    with pytest.raises(ValueError, match="not valid JSON"):
        talk.reply("1", Reply(deep))
    assert json.loads(talk.call(b"[" * 100 + b"]" * 100))[0] == 2


def test_an_answer_after_the_time_is_late() -> None:
    talk = conversation()
    first = json.loads(talk.call(b"{}"))
    talk.give_up()
    second = json.loads(talk.call(b"{}"))
    assert first[1] != second[1]
    assert talk.receive(json.dumps([3, first[1], {}]), NOW) is Ignored.LATE
    assert isinstance(talk.receive(json.dumps([3, second[1], {}]), NOW), Settled)


@pytest.mark.parametrize("payload", [b"", b"{", b'{"a":"\xff"}', b'"%b"' % (b"x" * MAX_PAYLOAD)])
def test_a_payload_that_cannot_be_sent_is_told(payload: bytes) -> None:
    with pytest.raises(CallError, match="FormatViolation: payload: "):
        conversation().call(payload)


# ---- arbitrary messages ----


frames = st.lists(
    st.one_of(
        st.none(),
        st.integers(0, 10),
        st.text(max_size=40),
        st.dictionaries(st.text(), st.text(), max_size=2),
    ),
    max_size=6,
)


@given(
    st.one_of(
        st.binary(),
        st.text(st.characters()),
        frames.map(json.dumps),
        frames.map(lambda f: json.dumps([2, *f])),
    ),
    st.sampled_from(OcppVersion),
)
def test_nothing_a_station_sends_is_an_exception(
    message: str | bytes, version: OcppVersion
) -> None:
    decision = conversation(version).receive(message, NOW)
    assert isinstance(decision, Answer | Forward | Ignored)
    if isinstance(decision, Answer):
        decision.frame.decode()
        assert json.loads(decision.frame)[0] in {3, 4}
