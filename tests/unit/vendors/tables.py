"""Tables of messages, each row with its one right outcome, played in OCPP 1.6 and 2.0.1.

``ROWS`` of a pack's test is a list of rows; ``played(ROWS)`` has each in every form that stations
write data in: as JSON text inside a string, and as it is. In 1.6 it should be the former, and in
2.0.1 the latter, but each is seen in both.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import UNSET, Raw, Struct

from bridge import Call, DataTransferRequest, DataTransferResponse, UnexpectedAnswer
from bridge.ocpp import OcppVersion, decode_call_error, decode_response
from bridge.request.outcome import Failure, Kind, Reply
from bridge.testing import TestBridge
from bridge.vendors.pack import BareCommand, Command, messages_of
from tests.support import a_request, dispatched


class Form(Struct, frozen=True):
    """How a station writes data."""

    version: OcppVersion
    as_text: bool

    def __str__(self) -> str:
        return f"{self.version}{' text' if self.as_text else ''}"

    def write(self, data: str) -> Raw:
        """JSON, in this form. What is a string already is one in every form."""
        return Raw(msgspec.json.encode(data) if self.as_text and data[0] != '"' else data.encode())


V16, V201 = OcppVersion.V1_6, OcppVersion.V2_0_1
FORMS = [Form(version, as_text) for version in (V16, V201) for as_text in (True, False)]


def answering(interface: Any, answer: Any) -> Any:
    """A CSMS that answers each message with the same, and keeps in `given` what it was given."""
    given: list[Any] = []

    async def method(self: Any, call: Call, *data: Any) -> Any:
        given.append(data[0] if data else None)
        return answer

    methods = dict.fromkeys((each.name for each in messages_of(interface)), method)
    return type("Answering", (), {"given": given, **methods})()


async def asked(
    pack: Any, csms: Any, form: Form, message_id: str, data: str | None, **options: Any
) -> Reply | Failure:
    """What the router of a pack makes of a request."""
    fields = {"vendorId": pack.VENDOR_ID, "messageId": message_id}
    if data is not None:
        fields["data"] = form.write(data)
    request = a_request(msgspec.json.encode(fields), version=form.version)
    outcome = await dispatched(pack.router(csms, **options), request)
    assert isinstance(outcome, Reply | Failure)
    return outcome


class Asked(Struct, frozen=True, kw_only=True):
    """A message from a station that is answered."""

    name: str
    message_id: str
    data: str | None = None
    """JSON; None: absent."""
    given: Any = None
    """What the CSMS is given."""
    answer: Any = None
    """What it answers."""
    sent: str | None = None
    """The answer as JSON; None: absent."""
    both_ways: ClassVar[bool] = True

    async def play(self, pack: Any, form: Form) -> None:
        csms = answering(pack.CSMS, self.answer)
        outcome = await asked(pack, csms, form, self.message_id, self.data)
        assert isinstance(outcome, Reply)
        assert outcome.kind is Kind.RESPONSE
        assert csms.given == [self.given]
        expected: dict[str, Any] = {"status": "Accepted"}
        if self.sent is not None:
            expected["data"] = Form(form.version, form.version is V16).write(self.sent)
        assert outcome.body == msgspec.json.encode(expected)


class Refused(Struct, frozen=True, kw_only=True):
    """A message from a station that the pack's source forbids."""

    name: str
    message_id: str
    data: str | None = None
    fault: str
    """A part of what the station is told from 2.0.1 on."""
    both_ways: ClassVar[bool] = True

    async def play(self, pack: Any, form: Form) -> None:
        csms = answering(pack.CSMS, None)
        outcome = await asked(pack, csms, form, self.message_id, self.data)
        response = decode_response(outcome.body or b"", form.version)
        assert csms.given == []
        assert response.status == "Rejected"
        if form.version is not V16:
            assert response.status_info is not None
            assert response.status_info.reason_code == "InvalidData"
            assert self.fault in str(response.status_info.additional_info)


class NotAnswered(Struct, frozen=True, kw_only=True):
    """An answer of the CSMS that the pack's source forbids: it does not reach the station."""

    name: str
    message_id: str
    data: str | None = None
    answer: Any
    fault: str
    """A part of what is logged."""
    both_ways: ClassVar[bool] = False

    async def play(self, pack: Any, form: Form) -> None:
        csms = answering(pack.CSMS, self.answer)
        outcome = await asked(pack, csms, form, self.message_id, self.data)
        assert isinstance(outcome, Failure)
        assert outcome.body is not None
        assert decode_call_error(outcome.body).code == "InternalError"
        assert self.fault in outcome.error
        assert self.fault not in outcome.body.decode()


class Sent(Struct, frozen=True, kw_only=True):
    """A message to a station, and the station's answer."""

    name: str
    command: Any
    data: Any = UNSET
    """UNSET: the command takes none."""
    wire: str | None = None
    """What the station receives, as JSON; None: nothing."""
    answer: str | None = None
    """What it answers, as JSON; None: nothing."""
    read: Any = None
    """What that is to the CSMS."""
    fault: str | None = None
    """Why the answer is refused; None: it is not."""
    both_ways: ClassVar[bool] = True

    async def play(self, pack: Any, form: Form) -> None:
        received: list[DataTransferRequest] = []

        async def station(request: DataTransferRequest) -> DataTransferResponse:
            received.append(request)
            return DataTransferResponse(
                "Accepted", UNSET if self.answer is None else form.write(self.answer)
            )

        arguments = () if self.data is UNSET else (self.data,)
        async with (
            TestBridge([]) as bridge,
            bridge.station("CS-1", station, version=form.version),
        ):
            client = await bridge.client()
            if self.fault is not None:
                with pytest.raises(UnexpectedAnswer, match=self.fault):
                    await self.command(client, "CS-1", *arguments)
                return
            response = await self.command(client, "CS-1", *arguments)
        assert response.status == "Accepted"
        assert response.data == self.read
        (request,) = received
        assert request.vendor_id == self.command.vendor_id
        assert request.message_id == self.command.message_id
        assert request.data == _as_received(self.wire, form.version)


def _as_received(wire: str | None, version: OcppVersion) -> Any:
    if wire is None:
        return UNSET
    return wire if version is V16 and wire[0] != '"' else msgspec.json.decode(wire)


class NotSent(Struct, frozen=True, kw_only=True):
    """A message to a station that the pack's source forbids: it is an error at once."""

    name: str
    command: Any
    data: Any
    fault: str
    both_ways: ClassVar[bool] = False

    async def play(self, pack: Any, form: Form) -> None:
        with pytest.raises(ValueError, match=self.fault):
            self.command.request(self.data)


Row = Asked | Refused | NotAnswered | Sent | NotSent


def played(rows: Iterable[Row]) -> list[Any]:
    """Each row in every form, as parameters of a test."""
    return [
        pytest.param(row, form, id=f"{row.name}, {form}")
        for row in rows
        for form in (FORMS if row.both_ways else FORMS[:1])
    ]


def missing(pack: Any, rows: Iterable[Row]) -> set[str]:
    """The messages of a pack that no row is about."""
    rows = list(rows)
    interface = getattr(pack, "CSMS", None)
    wanted = {each.message_id for each in messages_of(interface)} if interface else set()
    played_ids = {row.message_id for row in rows if isinstance(row, Asked)}
    sent = {row.command.message_id or "" for row in rows if isinstance(row, Sent)}
    commands = {
        each.message_id or ""
        for each in vars(pack).values()
        if isinstance(each, Command | BareCommand)
    }
    return (wanted - played_ids) | (commands - sent)
