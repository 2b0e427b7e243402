"""Routing keys, and the names of exchanges and queues."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from bridge.dialects import names
from bridge.dialects.names import (
    OTHER_VENDORS,
    Names,
    event_word,
    read_vendor_id,
    station_key,
    vendor_key,
    vendor_of_key,
)

VECTORS: list[dict[str, str]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "vendor_key.json").read_text(encoding="ascii")
)
STATION_VECTORS: list[dict[str, str]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "station_key.json").read_text(encoding="ascii")
)
RESERVED_QUEUES = {"datatransfer.dead", "datatransfer.unknown-vendor"}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["vendor_id"][:20])
def test_the_vectors_hold(vector: dict[str, str]) -> None:
    assert vendor_key(vector["vendor_id"]) == vector["key"]
    assert Names().vendor_queue(vector["vendor_id"]) == vector["queue"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["vendor_id"][:20])
def test_the_vectors_follow_the_rule(vector: dict[str, str]) -> None:
    """The rule as another language would write it: it checks the table itself."""
    lowered = re.sub(rb"[A-Z]", lambda letter: letter[0].lower(), vector["vendor_id"].encode())
    key = re.sub(rb"[^a-z0-9.-]", lambda byte: b"_%02x" % byte[0][0], lowered).decode()
    if len(key) > 200:
        key = f"{key[:100]}_x{hashlib.sha256(key.encode()).hexdigest()}"
    assert vector["key"] == key


@pytest.mark.parametrize("vector", STATION_VECTORS, ids=lambda vector: vector["station_id"][:20])
def test_the_vectors_of_stations_hold_and_follow_their_rule(vector: dict[str, str]) -> None:
    key = re.sub(
        rb"[^A-Za-z0-9.-]", lambda byte: b"_%02x" % byte[0][0], vector["station_id"].encode()
    ).decode()
    if len(key) > 200:
        key = f"{key[:100]}_x{hashlib.sha256(key.encode()).hexdigest()}"
    assert station_key(vector["station_id"]) == vector["key"] == key
    assert re.fullmatch(r"[A-Za-z0-9._-]{0,200}", key)


def test_no_two_stations_share_a_key() -> None:
    assert len({vector["key"] for vector in STATION_VECTORS}) == len(STATION_VECTORS)


@pytest.mark.parametrize(
    ("payload", "vendor_id"),
    [
        (b'{"data":{"vendorId":"no"},"vendorId":"EN+","more":[1,{}]}', "EN+"),
        (b'{"vendorId":"a","messageId":7}', "a"),
        (b'{"vendorId":"%s"}' % (b"x" * 255), "x" * 255),
        (b'{"vendorId":"%s"}' % (b"x" * 256), ""),  # OCPP allows 255
        (b'{"vendorId":"%s"}' % (b"x" * 1_000_000), ""),
        (b'{"vendorId":""}', ""),
        (b'{"vendorId":null}', ""),
        (b'{"vendorId":["a"]}', ""),
        (b'{"VendorId":"a"}', ""),
        (b'{"vendorId":"\xff"}', ""),
        (b"[" * 100_000, ""),
        (b"[]", ""),
        (b"", ""),
    ],
)
def test_a_payload_is_routed_by_the_vendor_that_can_be_read(payload: bytes, vendor_id: str) -> None:
    assert read_vendor_id(payload) == vendor_id


def test_keys_that_are_remembered_are_few_and_short() -> None:
    """Stations spell them."""
    remembered = names._short_vendor_key
    remembered.cache_clear()
    for number in range(names._REMEMBERED + 10):
        assert vendor_key(f"Vendor{number}") == f"vendor{number}"
        assert vendor_key(f"{'v' * names._SHORT}{number}") == f"{'v' * names._SHORT}{number}"
    assert remembered.cache_info().currsize == names._REMEMBERED
    remembered.cache_clear()
    for text in ("v" * names._SHORT, "é" * names._SHORT, "v" * (names._SHORT + 1)):
        assert vendor_key(text) == vendor_key(text)
    assert remembered.cache_info().currsize == 2


def test_only_vendors_that_differ_in_case_alone_share_a_queue() -> None:
    by_queue: dict[str, set[str]] = {}
    for vector in VECTORS:
        by_queue.setdefault(vector["queue"], set()).add(vector["vendor_id"].lower())
    assert all(len(vendors) == 1 for vendors in by_queue.values())


def test_every_name_is_one_the_libraries_and_the_broker_take() -> None:
    for vector in VECTORS:
        assert re.fullmatch(r"[a-z0-9._-]{0,200}", vector["key"])
        assert len(vector["queue"]) <= 255


def test_no_vendor_gets_a_queue_of_the_bridges_own() -> None:
    names = Names()
    assert {names.dead, names.unknown_vendor} == RESERVED_QUEUES
    for vendor_id in (
        "dead",
        "Dead",
        "unknown-vendor",
        "UNKNOWN-VENDOR",
        "retry.1000",
        "Retry.",
        "replies.gateway-1",
    ):
        queue = names.vendor_queue(vendor_id)
        assert queue not in RESERVED_QUEUES
        assert not queue.startswith(("datatransfer.retry.", "datatransfer.replies."))


def test_all_names_stand_below_the_prefix() -> None:
    names = Names("acme")
    assert names.requests == "acme"
    assert names.vendor_queue("EN+") == "acme.en_2b"
    for name in (names.unrouted, names.unknown_vendor, names.dead, names.stations, names.replies):
        assert name.startswith("acme.")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["vendor_id"][:20])
def test_the_word_of_a_vendors_events_is_its_key(vector: dict[str, str]) -> None:
    word = event_word(vector["vendor_id"])
    assert word == vector["key"] or vector["key"] == OTHER_VENDORS
    assert not set(word) & set("*#")
    assert len(f"{word}.unknown_message") <= 255


def test_no_vendor_has_the_word_of_those_that_nobody_handles() -> None:
    assert event_word("other") == event_word("OTHER") == "_6fther"
    assert event_word("other.") == "other."
    assert vendor_key("_6fther") != "_6fther"
    assert Names("north").events == "north.events"


@pytest.mark.parametrize("vendor_id", ["com.acme", "EN+", "a_b", "%41", "Große Säule", "⚡"])
def test_a_vendor_can_be_read_from_its_key_but_for_case(vendor_id: str) -> None:
    found = vendor_of_key(vendor_key(vendor_id))
    assert vendor_key(found) == vendor_key(vendor_id)
    assert found.lower() == vendor_id.lower()


@pytest.mark.parametrize("key", [vendor_key("é" * 100), vendor_key("\udc80"), "_2B", "A", "_zz"])
def test_a_key_that_was_cut_or_is_none_stands_for_itself(key: str) -> None:
    assert vendor_of_key(key) == key


def test_no_vendors_queue_has_the_name_of_what_pauses_need() -> None:
    names = Names()
    for vendor_id in ("paused", "control", "-paused", "-control", "-control.1"):
        assert names.vendor_queue(vendor_id) not in {names.paused, names.control}
        assert not names.vendor_queue(vendor_id).startswith(f"{names.control}.")
