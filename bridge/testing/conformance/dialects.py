"""What a dialect must keep: :class:`bridge.dialects.Dialect`."""

import time
from typing import Any, ClassVar, Final, Protocol

import msgspec
import pytest

from bridge.dead_letters.letter import read, replayed
from bridge.dialects.copies import after_pause
from bridge.dialects.dialect import Dialect, Foreign
from bridge.ocpp import CallError, ErrorCode, OcppVersion, encode_call_error
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Reason, Reply
from bridge.transport import Delivery, Properties, Publishing

STATION: Final = "CP001"
MESSAGE_ID: Final = "m-1"
PAYLOAD: Final = b'{"vendorId":"com.acme","messageId":"GetTariff","data":"{ \\"a\\" : null }"}'
ACCEPTED: Final = b'{"status":"Accepted","data":"1"}'
_ERROR: Final = CallError(ErrorCode.INTERNAL_ERROR, "It could not be processed.")

_BODIES: Final = {
    "nothing": b"",
    "no text": b"\xff\xfe",
    "not JSON": b"{",
    "null": b"null",
    "a number": b"1" * 5_000,
    "an empty list": b"[]",
    "an empty object": b"{}",
    "nested too deeply": b"[" * 100_000,
    "half of a surrogate pair": b'["\\ud800"]',
}
_ODD: Final[tuple[Any, ...]] = (
    None,
    "",
    "\udcff",
    "x" * 300,
    -1,
    2**63 - 1,
    True,
    1.5,
    b"\xff",
    [],
    {"a": 1},
)
"""Values of headers."""
_NAMES: Final = (
    "ocpp-station-id",
    "ocpp-version",
    "ocpp-deadline",
    "ocpp-connection-id",
    "dtbridge-attempt",
    "dtbridge-first-try",
    "dtbridge-replayed",
    "x-death",
)


class Gateway(Protocol):
    """A gateway that speaks the dialect: what it publishes, and what it makes of answers."""

    def request(
        self, payload: bytes, version: OcppVersion, station_id: str, message_id: str
    ) -> Publishing:
        """A DataTransfer of a station.

        `payload`: that of the CALL, as the station sent it. `message_id`: that of the CALL.
        """

    def read(self, answer: Publishing) -> tuple[str, Reply]:
        """What the gateway makes of an answer: the message id that it is for, and its payload.

        The payload of an error is in the native form, with `errorCode`, `errorDescription` and
        `errorDetails`.
        """


def delivered(publishing: Publishing, *, redelivered: bool = False) -> Delivery:
    """A message as it comes, if a queue took it as it was published."""
    given = publishing.properties
    properties = msgspec.structs.replace(
        given,
        correlation_id=publishing.correlation_id or given.correlation_id,
        expiration=publishing.expiration or given.expiration,
    )
    exchange, routing_key = publishing.exchange, publishing.routing_key
    return Delivery(exchange, routing_key, redelivered, properties, bytes(publishing.body))


def _parsed(reply: Reply) -> Any:
    return msgspec.json.decode(reply.body), reply.kind


class DialectSuite:
    """For any dialect.

    It asks for the fixtures `dialect`, a :class:`~bridge.dialects.Dialect`, and `gateway`, a
    :class:`Gateway` that speaks it.
    """

    VERSIONS: ClassVar = tuple(OcppVersion)
    """The OCPP versions that the gateways speak: name them in a subclass if they are fewer."""

    @staticmethod
    def asked(
        dialect: Dialect, gateway: Gateway, version: OcppVersion = OcppVersion.V2_0_1
    ) -> Request:
        """A request as the dialect reads it."""
        return dialect.request(delivered(gateway.request(PAYLOAD, version, STATION, MESSAGE_ID)))

    # ---- requests ----

    def test_a_request_is_read(self, dialect: Dialect, gateway: Gateway) -> None:
        for version in self.VERSIONS:
            publishing = gateway.request(PAYLOAD, version, STATION, MESSAGE_ID)
            delivery = delivered(publishing, redelivered=True)
            request = dialect.request(delivery)
            assert request.body == PAYLOAD, "the payload is what the station sent, untouched"
            assert (request.station_id, request.ocpp_message_id) == (STATION, MESSAGE_ID)
            assert (request.version, request.fault) == (version, None)
            assert (request.attempt, request.first_try, request.redelivered) == (1, None, True)
            assert request.reply_wanted
            assert request.source is delivery
            assert request.deadline is None or request.deadline > time.time()

    def test_what_is_wrong_in_the_payload_is_not_for_the_dialect_to_say(
        self, dialect: Dialect, gateway: Gateway
    ) -> None:
        for payload in (b"{}", b'{"vendorId":7}', b"[1]", b"null", b'"x"'):
            publishing = gateway.request(payload, OcppVersion.V2_0_1, STATION, MESSAGE_ID)
            request = dialect.request(delivered(publishing))
            assert (request.body, request.fault) == (payload, None)

    @pytest.mark.parametrize("body", [*_BODIES.values()], ids=[*_BODIES])
    def test_whatever_comes_is_a_request_or_foreign(
        self, dialect: Dialect, gateway: Gateway, body: bytes
    ) -> None:
        properties = gateway.request(PAYLOAD, OcppVersion.V1_6, STATION, MESSAGE_ID).properties
        for given in (properties, Properties()):
            self._read(dialect, Delivery("x", "y", False, given, body))

    @pytest.mark.parametrize("name", _NAMES)
    def test_whatever_a_header_holds_is_a_request_or_foreign(
        self, dialect: Dialect, gateway: Gateway, name: str
    ) -> None:
        delivery = delivered(gateway.request(PAYLOAD, OcppVersion.V2_1, STATION, MESSAGE_ID))
        headers = delivery.properties.headers or {}
        for value in _ODD:
            delivery.properties.headers = {**headers, name: value}
            request = self._read(dialect, delivery)
            assert request is None or request.attempt >= 1

    @staticmethod
    def _read(dialect: Dialect, delivery: Delivery) -> Request | None:
        try:
            request = dialect.request(delivery)
        except Foreign:
            return None
        hash(request.origin)
        return request

    # ---- answers ----

    def test_the_gateway_can_read_an_answer(self, dialect: Dialect, gateway: Gateway) -> None:
        for version in self.VERSIONS:
            answers = (
                Reply(ACCEPTED),
                Reply(encode_call_error(_ERROR, version), Kind.CALL_ERROR),
            )
            for answer in answers:
                request = self.asked(dialect, gateway, version)
                publishing = dialect.reply(request, answer.body, answer.kind)
                assert publishing is not None
                message_id, read_answer = gateway.read(publishing)
                assert message_id == MESSAGE_ID
                assert _parsed(read_answer) == _parsed(answer)

    def test_an_answer_does_not_outlive_who_waits_for_it(
        self, dialect: Dialect, gateway: Gateway
    ) -> None:
        request = self.asked(dialect, gateway)
        publishing = dialect.reply(request, ACCEPTED, Kind.RESPONSE)
        assert publishing is not None
        expiration = publishing.expiration or publishing.properties.expiration
        if request.deadline is not None:
            assert expiration is not None
            assert int(expiration) <= (request.deadline - time.time()) * 1000 + 1_000

    # ---- tries ----

    def test_another_try_is_the_same_request(self, dialect: Dialect, gateway: Gateway) -> None:
        first = self.asked(dialect, gateway)
        second = self._tried_again(dialect, first, counts=True)
        assert (second.attempt, second.redelivered) == (2, False)
        third = self._tried_again(dialect, second, counts=False)
        assert third.attempt == 2, "what came before was no try"
        assert second.first_try is not None
        assert abs(second.first_try - time.time()) < 60
        assert third.first_try == second.first_try
        for later in (second, third):
            assert (later.body, later.version, later.station_id, later.ocpp_message_id) == (
                first.body,
                first.version,
                first.station_id,
                first.ocpp_message_id,
            )
            assert later.origin == first.origin, "a repetition is known by it"
            assert later.reply_wanted
            assert (later.deadline is None) == (first.deadline is None)
            assert abs((later.deadline or 0.0) - (first.deadline or 0.0)) < 1.0

    @staticmethod
    def _tried_again(dialect: Dialect, request: Request, *, counts: bool) -> Request:
        """Into the delay queue, and back."""
        copy = dialect.again(request, 1.0, counts=counts)
        assert copy.exchange == dialect.names.retry(1.0)
        assert copy.mandatory, "the request is nowhere else"
        assert copy.properties.delivery_mode == 2
        assert (copy.properties.expiration, copy.expiration) == (None, None)
        assert copy.body == request.source.body
        return dialect.request(delivered(after_pause(delivered(copy), dialect.names)))

    def test_the_gateway_can_read_the_answer_to_a_later_try(
        self, dialect: Dialect, gateway: Gateway
    ) -> None:
        later = self._tried_again(dialect, self.asked(dialect, gateway), counts=True)
        publishing = dialect.reply(later, ACCEPTED, Kind.RESPONSE)
        assert publishing is not None
        message_id, answer = gateway.read(publishing)
        assert (message_id, _parsed(answer)) == (MESSAGE_ID, _parsed(Reply(ACCEPTED)))

    # ---- dead letters ----

    def test_a_dead_letter_tells_its_story(self, dialect: Dialect, gateway: Gateway) -> None:
        request = self._tried_again(dialect, self.asked(dialect, gateway), counts=True)
        copy = self._dead_letter(dialect, request)
        letter = read(delivered(copy))
        assert (letter.reason, letter.error, letter.worker) == ("failed", "because", "worker@host")
        assert (letter.vendor, letter.message) == ("com.acme", "GetTariff")
        assert (letter.station, letter.ocpp_version) == (STATION, OcppVersion.V2_0_1.value)
        assert (letter.ocpp_message_id, letter.attempts) == (MESSAGE_ID, 2)
        assert letter.first_try is not None
        assert letter.replayable

    def test_a_dead_letter_that_is_replayed_is_a_request_that_nobody_waits_for(
        self, dialect: Dialect, gateway: Gateway
    ) -> None:
        letter = delivered(self._dead_letter(dialect, self.asked(dialect, gateway)))
        again = replayed(letter, read(letter))
        assert again is not None
        request = dialect.request(delivered(again))
        assert (request.body, request.station_id, request.fault) == (PAYLOAD, STATION, None)
        assert (request.attempt, request.deadline, request.reply_wanted) == (1, None, False)

    @staticmethod
    def _dead_letter(dialect: Dialect, request: Request) -> Publishing:
        copy = dialect.dead_letter(request, Failure(b"{}", Reason.FAILED, "because"), "worker@host")
        assert copy.exchange == dialect.names.dead
        assert copy.mandatory, "the request is nowhere else"
        assert copy.properties.delivery_mode == 2
        assert (copy.properties.expiration, copy.expiration) == (None, None)
        assert copy.body == request.source.body
        return copy

    # ---- the other direction ----

    def test_a_question_to_a_station_names_it(self, dialect: Dialect) -> None:
        version = dialect.station_version(None)
        question = dialect.question_to_station(
            station_id=STATION,
            version=version,
            body=PAYLOAD,
            deadline=time.time() + 30,
            message_id=MESSAGE_ID,
        )
        assert question.station_id == STATION
        publishing = question.publishing(question.correlation_id or "c-1", "amq.gen-1")
        assert PAYLOAD in publishing.body

    def test_a_message_id_that_ocpp_does_not_allow_is_refused(self, dialect: Dialect) -> None:
        with pytest.raises(ValueError, match="36"):
            dialect.question_to_station(
                station_id=STATION,
                version=dialect.station_version(None),
                body=PAYLOAD,
                deadline=time.time() + 30,
                message_id="i" * 37,
            )

    @pytest.mark.parametrize("body", [*_BODIES.values()], ids=[*_BODIES])
    def test_whatever_comes_as_an_answer_of_a_station_is_one_or_none(
        self, dialect: Dialect, body: bytes
    ) -> None:
        for correlation_id in (None, MESSAGE_ID, "\udcff"):
            delivery = Delivery("x", "y", False, Properties(correlation_id=correlation_id), body)
            reply = dialect.read_station_reply(delivery)
            assert reply is None or isinstance(reply, Delivery)

    # ---- its queues ----

    def test_its_shared_queues_are_of_its_own(self, dialect: Dialect) -> None:
        names = [queue.name for queue in dialect.queues]
        assert len({*names}) == len(names)
        theirs = {dialect.names.dead, dialect.names.unknown_vendor, dialect.names.requests}
        assert not theirs & {*names}
        assert (dialect.exchange is None) == (not names), "shared queues are bound to an exchange"
        for queue in dialect.queues:
            assert dialect.exchange is not None
            assert queue.binding.exchange == dialect.exchange.name
