"""Whatever a broker URL holds, no part of its password is ever told."""

import contextlib
from unittest.mock import patch

import pytest
import typer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from bridge.cli.main import dtbridge
from bridge.cli.options import broker_urls
from bridge.client.client import Client
from bridge.rabbitmq.urls import parse_urls, printable, without_secrets

PARTS = ("Qx7k", "Zk9w", "Jv3q")
"""What a password is made of, with odd characters around: none of it is anywhere else in a URL."""
ODD = st.text(
    st.sampled_from(list("#/?[]@:%,;&=+ \t\n\\\"'<>{}|^`~!$*().-_0129é℀\x00\x7f\u2028\udcff")),
    max_size=4,
)
PASSWORDS = st.tuples(ODD, ODD, ODD, ODD).map(
    lambda odd: odd[0] + "".join(part + after for part, after in zip(PARTS, odd[1:], strict=True))
)
BEFORE = st.sampled_from(["amqp://", "amqps://", "AMQP://", "http://", "amqp:/", "amqp:", "//", ""])
USERS = st.sampled_from(["me:", "12:", ":", "a@b:", "me%3A"])
AFTER = st.sampled_from(
    ["@h/", "@h:5672/v", "@h:x/", "@h:0", "@[::1]/", "@", "", "@h/?heartbeat=x", "@h/?cafiel=1"]
)
URLS = st.tuples(BEFORE, USERS, PASSWORDS, AFTER).map("".join)


def assert_untold(text: str, url: str) -> None:
    assert not [part for part in PARTS if part in text], (text, url)


@given(URLS)
@example("amqp://me%3AQx7kZk9w?Jv3q")
@example("amqp://me:@Qx7kZk9w?Jv3q=1")
@example("amqp://me%3AQx7kZk9w/Jv3q")
def test_no_part_of_a_password_is_in_an_exception_or_in_what_people_see(url: str) -> None:
    for texts in ([url], ["amqp://first/", url], [f"amqp://first/,{url}"]):
        try:
            shown = " ".join(printable(each) for each in parse_urls(texts))
        except ValueError as error:
            shown = f"{error} {error!r} {error.__context__!r}"
        assert_untold(shown, url)
    try:
        Client(url)
    except ValueError as error:
        assert_untold(str(error), url)
    if "@" in url.rpartition(PARTS[-1])[2]:
        for quoting in ("({})", "Invalid value for '--prefetch': '{}' is not a valid integer."):
            assert_untold(without_secrets(f"Got unexpected argument {quoting.format(url)}"), url)


@given(PASSWORDS)
def test_a_password_that_is_percent_encoded_arrives_as_it_is(password: str) -> None:
    password = password.replace("\udcff", "").replace("\x00", "")
    [url] = parse_urls([str(URL.build(scheme="amqp", user="u", password=password, host="h"))])
    assert url.password == password


@settings(max_examples=50)
@given(URLS)
def test_no_command_tells_a_part_of_a_password(url: str) -> None:
    """As far as the URL is read; `tests/acceptance/test_mistakes.py` runs the commands."""
    if "\x00" in url:
        return  # neither an argument nor a variable can have it
    told: list[str] = []
    with patch.object(typer, "echo", lambda text, **_: told.append(str(text))):
        with contextlib.suppress(typer.Exit):
            broker_urls([url])
        with pytest.raises(SystemExit):
            dtbridge(["check", url])
    if "@" in url.rpartition(PARTS[-1])[2]:
        assert_untold(" ".join(told), url)
