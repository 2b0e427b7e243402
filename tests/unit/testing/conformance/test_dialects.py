"""The suite for dialects: the bridge's own keep it, and what is broken is found."""

import json
import time

import msgspec
import pytest

from bridge.dialects import CitrineOs, Dialect, Native, WebOcpp
from bridge.dialects.replies import read_reply
from bridge.ocpp import OcppVersion
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Reply
from bridge.testing.conformance import DialectSuite, Gateway
from bridge.testing.conformance.dialects import MESSAGE_ID, delivered
from bridge.transport import Delivery, Publishing
from tests.contract.sides import Received
from tests.contract.test_dialects import GATEWAYS
from tests.contract.test_dialects import Gateway as ForeignGateway
from tests.unit.testing.conformance.playing import failing


class NativeGateway:
    """As the wire contract has it."""

    def request(
        self, payload: bytes, version: OcppVersion, station_id: str, message_id: str
    ) -> Publishing:
        question = Native().question_to_csms(
            station_id=station_id,
            version=version,
            vendor_id="com.acme",
            body=payload,
            deadline=time.time() + 30,
            message_id=message_id,
        )
        return question.publishing("c-1", "amq.gen-1")

    def read(self, answer: Publishing) -> tuple[str, Reply]:
        delivery = delivered(answer)
        assert (answer.exchange, answer.routing_key) == ("", "amq.gen-1")
        assert delivery.properties.correlation_id == "c-1"
        return MESSAGE_ID, read_reply(delivery)


class Foreign:
    """One of the gateways of the contract suite."""

    def __init__(self, gateway: ForeignGateway) -> None:
        self._gateway = gateway
        self._version = OcppVersion.V2_0_1

    def request(
        self, payload: bytes, version: OcppVersion, station_id: str, message_id: str
    ) -> Publishing:
        self._version = version
        return self._gateway.request(payload, version, message_id)

    def read(self, answer: Publishing) -> tuple[str, Reply]:
        came = delivered(answer)
        received = Received(came.body, came.routing_key, came.properties, came.exchange)
        told = self._gateway.check(received, self._version, MESSAGE_ID)
        kind = Kind.CALL_ERROR if "errorCode" in told else Kind.RESPONSE
        return MESSAGE_ID, Reply(json.dumps(told).encode(), kind)


class TestNative(DialectSuite):
    @pytest.fixture
    def dialect(self) -> Dialect:
        return Native()

    @pytest.fixture
    def gateway(self) -> Gateway:
        return NativeGateway()


class TestWebOcpp(DialectSuite):
    VERSIONS = (OcppVersion.V1_6, OcppVersion.V2_0_1, OcppVersion.V2_1)

    @pytest.fixture
    def dialect(self) -> Dialect:
        return WebOcpp()

    @pytest.fixture
    def gateway(self) -> Gateway:
        return Foreign(GATEWAYS["web-ocpp"]())


class TestCitrineOs(DialectSuite):
    @pytest.fixture
    def dialect(self) -> Dialect:
        return CitrineOs()

    @pytest.fixture(params=["citrineos", "citrineos, from a module", "citrineos 2"])
    def gateway(self, request: pytest.FixtureRequest) -> Gateway:
        return Foreign(GATEWAYS[request.param]())


class ReadsAnything(Native):
    """Raises what is not Foreign."""

    def request(self, delivery: Delivery) -> Request:
        msgspec.json.decode(delivery.body)
        return super().request(delivery)


class Strips(Native):
    """Alters the payload."""

    def request(self, delivery: Delivery) -> Request:
        request = super().request(delivery)
        request.body = request.body.replace(b" ", b"")
        return request


class ForgetsTries(Native):
    def again(self, request: Request, delay: float, *, counts: bool) -> Publishing:
        return super().again(request, delay, counts=False)


class MayLoseTheCopy(Native):
    def dead_letter(self, request: Request, failure: Failure, worker: str) -> Publishing:
        copy = super().dead_letter(request, failure, worker)
        return msgspec.structs.replace(copy, mandatory=False)


class AnswersAnother(Native):
    def reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        reply = super().reply(request, body, kind)
        return reply and msgspec.structs.replace(reply, correlation_id="c-2")


class TakesErrorsForAnswers(Native):
    def reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        return super().reply(request, body, Kind.RESPONSE)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (ReadsAnything, "test_whatever_comes_is_a_request_or_foreign"),
        (Strips, "test_a_request_is_read"),
        (ForgetsTries, "test_another_try_is_the_same_request"),
        (MayLoseTheCopy, "test_a_dead_letter_tells_its_story"),
        (AnswersAnother, "test_the_gateway_can_read_an_answer"),
        (TakesErrorsForAnswers, "test_the_gateway_can_read_an_answer"),
    ],
)
async def test_a_dialect_that_breaks_a_promise_is_found(broken: type[Native], test: str) -> None:
    assert test in await failing(DialectSuite, dialect=broken, gateway=NativeGateway)
