"""Where the management API is, and what is made of the answers of any server at all."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from bridge.rabbitmq import management_http
from bridge.rabbitmq.management import (
    ConsumingChannel,
    LiveQueue,
    Management,
    Node,
    management_urls,
    open_management,
    virtual_host,
)
from bridge.rabbitmq.management_http import ManagementError
from bridge.rabbitmq.urls import parse_urls

AMQP = parse_urls(["amqp://u:p%40w@h:5673/v"])


@pytest.mark.parametrize(
    ("amqp", "expected"),
    [
        ("amqp://u:p%40w@h:5673/v", "http://u:p%40w@h:15672"),
        ("amqp://h", "http://h:15672"),
        ("amqps://u:p@h/v?heartbeat=5", "https://u:p@h:15671"),
        ("amqps://u:p@h/v?no_verify_ssl=1", "https://u:p@h:15671/?no_verify_ssl=1"),
    ],
)
def test_by_default_it_is_beside_the_broker(amqp: str, expected: str) -> None:
    [url] = management_urls([], parse_urls([amqp]))
    assert url == URL(expected)


def test_one_without_a_login_has_the_brokers() -> None:
    assert management_urls(["http://m:1/pre"], AMQP) == [URL("http://u:p%40w@m:1/pre")]
    assert management_urls(["https://x:y@m"], AMQP) == [URL("https://x:y@m")]
    assert management_urls(["http://a http://b"], []) == [URL("http://a"), URL("http://b")]


@pytest.mark.parametrize(
    "text",
    [
        "m:15672",
        "amqp://u:secret@m",
        "http://u:sec/ret@m:1",
        "http://u:sec#ret@m:1",
        "http://u:sec?ret@m:1",
        "http://u:secret@m:port",
        "http://u:secret@m:0",
        "http://u:secret@m?cafile=x",
        "https://u:secret@m?ca=x",
        "https://u:secret@m?cafile=/nowhere",
        "http://",
    ],
)
def test_what_is_no_url_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"management API|options it does not take|cafile") as told:
        management_urls([text], AMQP)
    assert "sec" not in str(told.value)


@pytest.mark.parametrize(
    ("amqp", "expected"),
    [
        ("amqp://h", "/"),
        ("amqp://h/", "/"),
        ("amqp://h/%2F", "/"),
        ("amqp://h/v", "v"),
        ("amqp://h/a%2Fb", "a/b"),
        ("amqp://h/a%20b", "a b"),
    ],
)
def test_the_virtual_host_is_the_one_that_amqp_has(amqp: str, expected: str) -> None:
    [url] = parse_urls([amqp])
    assert virtual_host(url) == expected


# ---- its answers ----

Answer = Callable[[str], bytes]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[Management, list[str]]]:
    """A server that answers with these bytes, and the requests that came."""
    requests: list[str] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        requests.append(head)
        writers.append(writer)
        writer.write(answer(head.split()[1]))
        if not answer(head.split()[1]).endswith(b"..."):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = URL(f"http://u:se%2Fcret@127.0.0.1:{port}/pre")
    try:
        yield Management(url, timeout=1.0), requests
    finally:
        server.close()
        for writer in writers:
            writer.close()
            await writer.wait_closed()


def ok(body: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode())


async def refused(answer: bytes) -> ManagementError:
    async with serving(lambda _: answer) as (management, _):
        with pytest.raises(ManagementError) as told:
            await management.overview()
    assert "se/cret" not in str(told.value)
    assert "se%2Fcret" not in str(told.value)
    assert "\n" not in str(told.value)
    return told.value


async def test_the_login_and_the_path_are_sent() -> None:
    async with serving(lambda _: ok('{"rabbitmq_version":"3.10.8"}')) as (management, requests):
        assert (await management.overview()).rabbitmq_version == "3.10.8"
    assert requests[0].startswith("GET /pre/api/overview HTTP/1.1\r\n")
    assert "Authorization: Basic dTpzZS9jcmV0\r\n" in requests[0]


async def test_names_are_encoded() -> None:
    async with serving(lambda _: ok('{"name":"q/1"}')) as (management, requests):
        found = await management.queue("/", "q/1?")
    assert found == LiveQueue("q/1")
    assert requests[0].startswith("GET /pre/api/queues/%2F/q%2F1%3F HTTP/1.1")


async def test_all_pages_are_read() -> None:
    def page(path: str) -> bytes:
        [number] = re.findall(r"\bpage=(\d+)", path)
        return ok(f'{{"items":[{{"name":"q{number}"}}],"page_count":3}}')

    async with serving(page) as (management, requests):
        found = await management.queues("v", "data.transfer")
    assert [queue.name for queue in found] == ["q1", "q2", "q3"]
    assert "use_regex=true&name=%5Edata%5C.transfer%28%5B.%3A-%5D%7C%24%29" in requests[0]


async def test_what_does_not_exist_is_none_or_nothing() -> None:
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"
    async with serving(lambda _: missing) as (management, _):
        assert await management.queue("v", "q") is None
        assert await management.bindings_of_exchange("v", "x") == []


async def test_the_apis_ways_to_say_nothing_are_taken_for_it() -> None:
    body = (
        '{"name":"q","policy":null,"arguments":[],"head_message_timestamp":"","messages":"many",'
        '"effective_policy_definition":[],"message_stats":[]}'
    )
    async with serving(lambda _: ok(body)) as (management, _):
        assert await management.queue("v", "q") == LiveQueue("q")
    async with serving(lambda _: ok('[{"name":"n","fd_total":"unknown"}]')) as (management, _):
        assert await management.nodes() == [Node("n")]
    body = '[{"queue":{"name":"q"},"consumer_tag":"t","channel_details":[]}]'
    async with serving(lambda _: ok(body)) as (management, _):
        assert (await management.consumers("v"))[0].channel_details == ConsumingChannel()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("401 Unauthorized", "refused the user name or password"),
        ("403 Forbidden", "the user u may not see overview"),
        ("500 Oops", "answered 500 to overview: it \\x1b[31mhurts"),
    ],
)
async def test_a_refusal_is_told_in_words(status: str, told: str) -> None:
    body = '{"error":"x","reason":"it \\u001b[31mhurts"}'
    answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    error = await refused(answer)
    assert told in str(error)
    assert error.status == int(status[:3])


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "no management API at"),
        (b"AMQP\x00\x00\x09\x01", "no management API at"),
        (ok("<html>"), "is no management API"),
        (ok("[]"), "does not say what is expected of overview"),
        (ok('{"rabbitmq_version":5}'), "does not say what is expected of overview"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://else/\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n...", "it does not answer"),
    ],
)
async def test_what_is_no_management_api_is_told_in_words(answer: bytes, told: str) -> None:
    assert told in str(await refused(answer))


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management_http, "LARGEST", 1000)
    assert "larger than" in str(await refused(ok("x" * 2000)))


async def test_the_first_host_that_answers_is_taken() -> None:
    async with serving(lambda _: ok('{"name":"u","tags":["monitoring"]}')) as (management, _):
        port = management.url.rpartition(":")[2].partition("/")[0]
        urls = [URL("http://127.0.0.1:1"), URL(f"http://u:p@127.0.0.1:{port}")]
        assert (await open_management(urls)).user == "u"
    with pytest.raises(ManagementError, match=r"no management API at http://127\.0\.0\.1:1"):
        await open_management([URL("http://127.0.0.1:1")])
