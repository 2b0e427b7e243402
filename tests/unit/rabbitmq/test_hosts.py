"""URLs and passwords in files."""

import os
import threading
from pathlib import Path

import pytest
from yarl import URL

from bridge.rabbitmq.hosts import SECRET_MAX, Hosts, read_secret
from bridge.rabbitmq.urls import printable


def test_hosts_are_a_sequence_of_urls() -> None:
    hosts = Hosts(["amqp://a amqp://b", "amqp://c"])
    assert list(hosts) == [URL("amqp://a"), URL("amqp://b"), URL("amqp://c")]
    assert (len(hosts), hosts[1], hosts[1:]) == (3, URL("amqp://b"), [*hosts][1:])
    assert not hosts.can_change
    assert not hosts.read_again()


def test_a_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("amqp://u:one@a amqp://u:one@b\n")
    hosts = Hosts([f"@{file}", "amqp://c"])
    assert hosts.can_change
    assert not hosts.read_again()
    file.write_text("amqp://u:two@a\n")
    assert hosts.read_again()
    assert list(hosts) == [URL("amqp://u:two@a"), URL("amqp://c")]


@pytest.mark.parametrize("text", ["", "http://a", "amqp://u:Qx7/Zk9@a", "x" * (SECRET_MAX + 1)])
def test_what_cannot_be_used_changes_nothing_and_is_not_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "url"
    file.write_text("amqp://a")
    hosts = Hosts([f"@{file}"])
    file.write_text(text)
    with pytest.raises(ValueError, match=r"URL|kB") as caught:
        hosts.read_again()
    assert "Qx7" not in str(caught.value)
    file.unlink()
    with pytest.raises(ValueError, match="cannot be read from the file"):
        hosts.read_again()
    assert list(hosts) == [URL("amqp://a")]


def test_bytes_that_are_no_text_are_in_no_exception(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"Qx7\xff")
    with pytest.raises(ValueError, match="it is not UTF-8") as caught:
        read_secret(str(file))
    assert caught.value.__context__ is None


def test_a_password_stands_in_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@/ss\n")
    hosts = Hosts([f"amqp://me@a:5673/v?heartbeat=5&passwordfile={file}"])
    [url] = hosts
    assert (url.user, url.password, url.host, url.port, url.path) == (
        "me",
        "p@/ss",
        "a",
        5673,
        "/v",
    )
    assert dict(url.query) == {"heartbeat": "5"}
    assert printable(url) == "amqp://me:***@a:5673/v"
    assert hosts.can_change
    file.write_text("other")
    assert hosts.read_again()
    assert hosts[0].password == "other"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("amqp://a?passwordfile={file}", "needs a user"),
        ("amqp://u:p@a?passwordfile={file}", "needs a user, and no password"),
        ("amqp://u@a?passwordfile={file}", "is empty"),
        ("amqp://u@a?passwordfile={file}.x", "cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, url: str, told: str) -> None:
    file = tmp_path / "password"
    file.write_text("\n")
    with pytest.raises(ValueError, match=told):
        Hosts([url.format(file=file)])


def test_what_came_through_a_pipe_is_kept(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("amqp://a",))
    writer.start()
    hosts = Hosts([f"@{pipe}"])
    writer.join()
    assert not hosts.can_change
    assert not hosts.read_again()
    assert list(hosts) == [URL("amqp://a")]
