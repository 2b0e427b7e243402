"""A worker for a program with an event loop of its own. The guide's test runs it on a broker."""

import pytest

from bridge import HandlerError, Router, Settings, make_worker
from bridge.dialects import CitrineOs
from bridge.idempotency import MemoryStore

URL = "amqp://localhost"


def test_it_keeps_replies_in_memory_unless_it_is_given_a_store() -> None:
    assert isinstance(make_worker(Router("com.acme"), URL).store, MemoryStore)
    store = MemoryStore()
    assert make_worker([Router("com.acme")], [URL, URL], store=store).store is store


def test_it_takes_settings_and_a_dialect() -> None:
    worker = make_worker(
        Router("com.acme"), URL, dialect=CitrineOs(), settings=Settings(prefetch=7)
    )
    assert worker.dialect.name == "citrineos"
    assert worker.settings.prefetch == 7


def test_what_cannot_be_is_a_value_error() -> None:
    router = Router("com.acme")
    with pytest.raises(ValueError, match="maybe"):
        make_worker(router, URL, topology="maybe")
    with pytest.raises(ValueError, match="stream"):
        make_worker(router, URL, queue_type="stream")
    with pytest.raises(ValueError, match="broker URL"):
        make_worker(router, "http://localhost")


def test_two_routers_of_one_vendor_are_refused() -> None:
    with pytest.raises(HandlerError):
        make_worker([Router("com.acme"), Router("com.Acme")], URL)


def test_partitions_in_a_dialect_without_them_are_refused() -> None:
    with pytest.raises(HandlerError):
        make_worker(Router("com.acme", partitions=4), URL, dialect=CitrineOs())
