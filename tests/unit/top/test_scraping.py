"""The metrics of workers, got by HTTP."""

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bridge.top import scraping
from bridge.top.scraping import Scraper, parse_workers
from tests.unit.top.exposition import a_worker


@contextmanager
def serving(body: str, status: int = 200, *, trickling: bool = False) -> Iterator[int]:
    """A listener on loopback; its port. `trickling`: it sends the body again and again."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/metrics"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())
            with contextlib.suppress(OSError):  # until the other side has gone
                while trickling:
                    time.sleep(0.05)
                    self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - its name

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def errors_of(*workers: str, timeout: float = 5.0) -> dict[str, str]:
    async with Scraper(parse_workers(workers), timeout) as scraper:
        return {name: answer.error for name, answer in (await scraper.scrape()).items()}


async def test_where_there_are_no_workers_nothing_is_asked() -> None:
    assert await errors_of() == {}


async def test_a_worker_is_asked_for_its_metrics() -> None:
    with serving(a_worker(accepted=3)) as port:
        async with Scraper(parse_workers([f"127.0.0.1:{port}"])) as scraper:
            for _ in range(2):
                answer = (await scraper.scrape())[f"127.0.0.1:{port}"]
                assert answer.error == ""
                assert answer.readings[""].sum_of("dtbridge_deliveries_total") == 3


async def test_what_is_wrong_with_a_worker_is_said() -> None:
    with (
        serving("<html>no</html>") as strange,
        serving("", 503) as unwell,
        serving("dtbridge_x{ 1\n") as broken,
        socket.socket() as unused,
    ):
        unused.bind(("127.0.0.1", 0))
        refusing = unused.getsockname()[1]
        ports = (strange, unwell, broken, refusing)
        found = await errors_of(*(f"127.0.0.1:{port}" for port in ports))
    assert found[f"127.0.0.1:{strange}"] == "it has no metrics of the bridge"
    assert found[f"127.0.0.1:{unwell}"] == "it answers 503"
    assert found[f"127.0.0.1:{broken}"] == "this is not what a worker says: ValueError"
    assert found[f"127.0.0.1:{refusing}"] == "Connection refused"


async def test_a_worker_that_hangs_holds_up_no_other_and_is_not_asked_twice() -> None:
    with silent() as hanging, serving(a_worker()) as port:
        urls = parse_workers([f"127.0.0.1:{hanging}", f"127.0.0.1:{port}"])
        async with Scraper(urls, timeout=0.4) as scraper:
            for _ in range(2):
                began = time.monotonic()
                found = await scraper.scrape()
                assert time.monotonic() - began < 5
                assert found[f"127.0.0.1:{hanging}"].error == "it does not answer"
                assert found[f"127.0.0.1:{port}"].error == ""


async def test_an_answer_that_is_too_large_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "LARGEST", 1_000)
    with serving("x" * 2_000) as port:
        assert "more than" in (await errors_of(f"127.0.0.1:{port}"))[f"127.0.0.1:{port}"]


async def test_an_answer_that_trickles_is_given_up() -> None:
    with serving("#\n", trickling=True) as port:
        found = await errors_of(f"127.0.0.1:{port}", timeout=0.4)
        assert found == {f"127.0.0.1:{port}": "it does not answer"}


async def test_a_name_with_several_addresses_is_as_many_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(a_worker(accepted=1)) as port:
        entries = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
            for ip in ("127.0.0.1", "127.0.0.2", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
        found = await errors_of(f"http://workers.example:{port}")
        assert found[f"127.0.0.1:{port}"] == ""
        assert set(found) == {f"127.0.0.1:{port}", f"127.0.0.2:{port}"}


async def test_a_name_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert await errors_of("nowhere.example:1") == {
        "nowhere.example:1": "Name or service not known"
    }


def test_urls_of_workers() -> None:
    texts = ["http://a:9100", "b:1", "https://c/x", "d"]
    assert [str(url) for url in parse_workers(texts)] == [
        "http://a:9100/metrics",
        "http://b:1/metrics",
        "https://c/x",
        "http://d:9100/metrics",
    ]


@pytest.mark.parametrize("text", ["", "ftp://a", "http://u:p@a:1", "http://", "a:b", "a:99999"])
def test_what_is_no_url_of_a_worker_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is not where a worker serves its metrics"):
        parse_workers([text])
