"""Where dead letters may go back to: their senders write part of what they tell."""

from typing import Any

import pytest

from bridge.dead_letters.destinations import Destinations, describe
from bridge.dead_letters.letter import DeadLetter, read
from bridge.dialects.names import Names
from bridge.transport import Delivery, Properties


def from_there(exchange: Any, routing_key: Any, vendor: str = "com.Acme") -> DeadLetter:
    headers = {
        "dtbridge-reason": "failed",
        "dtbridge-vendor": vendor,
        "dtbridge-exchange": exchange,
        "dtbridge-routing-key": routing_key,
    }
    return read(Delivery("datatransfer.dead", "k", False, Properties(headers=headers), b"{}"))


@pytest.mark.parametrize(
    ("exchange", "routing_key"),
    [
        ("datatransfer", "com.acme"),
        ("datatransfer", "whatever"),
        ("", "datatransfer.com.acme"),
        ("", "datatransfer.com.acme:4.0"),
        ("", "datatransfer.unknown-vendor"),
        ("", "datatransfer-web-ocpp.ocpp16"),
        ("", "datatransfer-web-ocpp.ocpp201"),
        ("", "datatransfer-citrineos"),
    ],
)
def test_the_bridges_own_exchange_and_queues_of_requests_are_allowed(
    exchange: str, routing_key: str
) -> None:
    assert Destinations().allow(from_there(exchange, routing_key))


@pytest.mark.parametrize(
    ("exchange", "routing_key"),
    [
        ("", "billing.commands"),
        ("", ""),
        ("", "amq.gen-1"),
        ("", "amq.rabbitmq.reply-to.g1h3AA.x"),
        ("", "datatransfer.dead"),
        ("", "datatransfer.retry.100"),
        ("", "datatransfer.replies.gateway"),
        ("", "datatransfer.com.other"),
        ("", "datatransfer.com.other:4.0"),
        ("", "datatransfer.com.acme:4"),
        ("", "datatransfer-citrineos.retry.100"),
        ("datatransfer.stations", "CP1"),
        ("datatransfer.dead", ""),
        ("datatransfer.retry.100", ""),
        ("datatransfer.unrouted", ""),
        ("amq.topic", "ocpp16.DataTransfer.req"),
        ("citrineos", ""),
        ("billing", "commands"),
        ("datatransfer ", "com.acme"),
        ("no\x1bname", "com.acme"),
    ],
)
def test_nothing_else_is(exchange: str, routing_key: str) -> None:
    assert not Destinations().allow(from_there(exchange, routing_key))


@pytest.mark.parametrize("vendor", ["dead", "retry.100", "replies.gateway", "unknown-vendor"])
def test_a_vendor_cannot_be_called_like_another_queue_of_the_bridge(vendor: str) -> None:
    allowed = Destinations()
    queue = Names().vendor_queue(vendor)
    assert allowed.allow(from_there("", queue, vendor))
    if vendor != "unknown-vendor":
        assert not allowed.allow(from_there("", f"datatransfer.{vendor}", vendor))


def test_an_exchange_is_allowed_by_its_name_and_the_default_one_never() -> None:
    allowed = Destinations(Names(), frozenset({"tenants", ""}))
    assert allowed.allow(from_there("tenants", "acme"))
    assert not allowed.allow(from_there("", "billing.commands"))


def test_with_another_prefix_other_names_are_the_bridges_own() -> None:
    allowed = Destinations(Names("lab"))
    assert allowed.allow(from_there("lab", "com.acme"))
    assert allowed.allow(from_there("", "lab-citrineos"))
    assert not allowed.allow(from_there("datatransfer", "com.acme"))


def test_a_destination_is_told_in_words() -> None:
    assert describe(from_there("datatransfer", "k")) == "exchange datatransfer, key k"
    assert describe(from_there("", "billing")) == "queue billing"
    assert describe(from_there(1, "k")) == ""
