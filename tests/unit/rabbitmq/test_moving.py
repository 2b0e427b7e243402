"""A message on its way to another queue: what goes with it, and what stays behind."""

import time

import pytest

from bridge.dialects.headers import DEADLINE
from bridge.dialects.topology import Purpose
from bridge.rabbitmq.moving import copy_of
from bridge.transport import Delivery, Properties, Publishing

DEATHS = [{"queue": "q", "reason": "expired", "count": 1}]


def copied(
    properties: Properties, purpose: Purpose = Purpose.REQUESTS, routing_key: str | None = None
) -> Publishing:
    delivery = Delivery("datatransfer", "acme", False, properties, b"body")
    return copy_of(delivery, purpose, exchange="there", routing_key=routing_key)


def test_body_key_and_properties_go_with_it() -> None:
    properties = Properties(
        content_type="application/json",
        headers={"ocpp-station-id": "CP1", "traceparent": "00-1"},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="5000",
        message_id="m",
        timestamp=1,
        type="DataTransfer",
        app_id="a",
    )
    assert copied(properties) == Publishing("acme", b"body", properties, "there", mandatory=True)


def test_it_may_get_another_key() -> None:
    assert copied(Properties(), routing_key="queue").routing_key == "queue"


def test_it_is_persistent_and_nobody_elses() -> None:
    copy = copied(Properties(delivery_mode=1, user_id="gateway"))
    assert copy.properties == Properties(delivery_mode=2)


@pytest.mark.parametrize("purpose", [Purpose.REQUESTS, Purpose.RETRY, Purpose.DEAD])
def test_what_would_send_it_to_others_or_is_the_brokers_stays_behind(purpose: Purpose) -> None:
    headers = {"CC": ["other"], "BCC": ["other"], "x-delivery-count": 3, "kept": 1}
    assert copied(Properties(headers=headers), purpose).properties.headers == {"kept": 1}


def test_a_dead_letter_keeps_the_brokers_account_of_its_death() -> None:
    headers = {"x-death": DEATHS, "x-first-death-queue": "q", "x-delivery-count": 3}
    kept = {"x-death": DEATHS, "x-first-death-queue": "q"}
    properties = Properties(headers=headers)
    assert copied(properties, Purpose.DEAD).properties.headers == kept
    assert copied(properties, Purpose.REQUESTS).properties.headers == {}


def test_a_forged_account_stays_behind() -> None:
    properties = Properties(headers={"x-death": "none"})
    assert copied(properties, Purpose.DEAD).properties.headers == {}


@pytest.mark.parametrize(
    ("expiration", "left", "expected"),
    [("5000", 60.0, 5000), ("60000", 5.0, 5000), ("60000", -5.0, 0)],
)
def test_it_lives_no_longer_than_to_its_deadline(
    expiration: str, left: float, expected: int
) -> None:
    deadline = round((time.time() + left) * 1000)
    copy = copied(Properties(headers={DEADLINE: deadline}, expiration=expiration))
    assert copy.properties.expiration is not None
    assert abs(int(copy.properties.expiration) - expected) < 1000
    assert copy.properties.headers == {DEADLINE: deadline}


def test_one_without_expiration_gets_none() -> None:
    deadline = round((time.time() + 9) * 1000)
    assert copied(Properties(headers={DEADLINE: deadline})).properties.expiration is None
