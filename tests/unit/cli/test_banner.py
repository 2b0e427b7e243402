"""What a command says when it starts."""

import logging
from typing import Any

import pytest
from yarl import URL

from bridge import Call, Router
from bridge.cli.banner import MESSAGES, VENDORS, announce_gateway, announce_worker
from bridge.dialects.citrineos import CitrineOs
from bridge.dialects.dialect import Dialect
from bridge.dialects.native import Native

HOSTS = [URL("amqp://me:Qx7@a/"), URL("amqp://b/")]


@pytest.fixture(autouse=True)
def _every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bridge.cli")


def router(vendor: str, *messages: str, partitions: int | None = None) -> Router:
    made = Router(vendor) if partitions is None else Router(vendor, partitions=partitions)
    for message in messages:

        @made.on(message)
        async def answer(call: Call) -> None: ...

    return made


def said(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    records = [getattr(record, "bridge") for record in caplog.records]  # noqa: B009 - no field of it
    return [record for record in records if record["event"] == event]


def announce(*routers: Router, dialect: Dialect | None = None, processes: int = 1) -> None:
    announce_worker(
        routers, dialect or Native(), HOSTS, processes=processes, http=None, config="a.toml"
    )


def test_it_says_what_is_consumed_and_where(caplog: pytest.LogCaptureFixture) -> None:
    announce(router("EN+", "A", ""), router("b", "B", partitions=3), processes=2)
    (started,) = said(caplog, "starting")
    assert started["brokers"] == ["amqp://me:***@a/", "amqp://b/"]
    assert (started["vendors"], started["dialect"]) == (2, "native")
    assert (started["processes"], started["config"]) == (2, "a.toml")
    assert "http" not in started
    first, second = said(caplog, "handles")
    assert (first["vendor"], first["messages"]) == ("EN+", ["A", "(no messageId)"])
    assert first["queue"] == "datatransfer.en_2b"
    assert second["partitions"] == 3


def test_in_a_dialect_all_vendors_have_its_queues(caplog: pytest.LogCaptureFixture) -> None:
    dialect = CitrineOs("datatransfer", "citrineos", 20)
    announce(router("a", "A"), dialect=dialect)
    assert said(caplog, "starting")[0]["queues"] == [each.name for each in dialect.queues]
    assert "queue" not in said(caplog, "handles")[0]


def test_its_lines_and_names_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    many = [str(number) for number in range(MESSAGES + 2)]
    announce(*(router(f"v{number}", *many) for number in range(VENDORS + 3)))
    lines = said(caplog, "handles")
    assert len(lines) == VENDORS
    assert (len(lines[0]["messages"]), lines[0]["more"]) == (MESSAGES, 2)
    assert said(caplog, "handles more")[0]["vendors"] == 3


def test_a_gateway_says_its_brokers(caplog: pytest.LogCaptureFixture) -> None:
    announce_gateway(HOSTS, processes=2, http=":9100", config=None)
    (started,) = said(caplog, "starting")
    assert (started["http"], started["processes"]) == (":9100", 2)
    assert "Qx7" not in str(started)
