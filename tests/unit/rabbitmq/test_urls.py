"""Broker URLs: what is one, and what is said of what is not."""

import random

import pytest

from bridge.client.client import Client
from bridge.gateway import GatewayLink
from bridge.rabbitmq.urls import HostOrder, in_order, parse_urls, printable, without_secrets


@pytest.mark.parametrize(
    "text",
    [
        "amqp://u:Qx7#Zk9@h/",
        "amqp://u:12#Zk9@h/",
        "amqp://u:Qx7/Zk9@h/",
        "amqp://u:12/Zk9@h/",
        "amqp://u:12/Zk9@Qx7@h/",
        "amqp://u:a@12/Zk9@h/",
        "amqp://u:Qx7?Zk9@h/",
        "amqp://u:12?heartbeat=Zk9@h/",
        "amqp://u:12?Zk9=1@h/",
        "amqp://u:[Zk9@h/",
        "amqp://u:Qx7]Zk9@h/",
        "amqp://u:Qx7\\Zk9@h/",
        "amqp://u:Qx7 Zk9@h/",
        "amqp://u:12 Zk9@h/",
        "amqp://u:Qx7\tZk9@h/",
        "amqp://u:Qx7\nZk9@h/",
        "amqp://u:Qx7\udcffZk9@h/",
        "amqp://u:Qx7℀Zk9@h/",
        "amqp://u:Qx7Zk9",
        "amqp://u:Qx7Zk9@",
        "amqp://u:Qx7Zk9@/",
        "amqp://u:Qx7Zk9@h:/",
        "amqp://u:Qx7Zk9@h:99999/",
        "amqp://u:Qx7Zk9@h:0/",
        "amqp:/u:Qx7Zk9@h/",
        "amqp:u:Qx7Zk9@h/",
        "http://u:Qx7Zk9@h/",
        "u:Qx7Zk9@h",
        "amqp://a/,amqp://u:12,Zk9#@h/",
    ],
)
def test_a_refusal_has_no_part_of_a_password_and_says_how_to_write_it(text: str) -> None:
    for refuse in (lambda: parse_urls([text]), lambda: Client(text), lambda: GatewayLink(text)):
        with pytest.raises(ValueError, match="not a broker URL") as caught:
            refuse()
        told = str(caught.value)
        assert "Qx7" not in told
        assert "Zk9" not in told
        assert "percent-encoded: %40 for @, %2F for /, %23 for #" in told
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("a,b", "a,b"),
        ("a,b,", "a,b,"),
        ("a;b&c=d+e!$'()*", "a;b&c=d+e!$'()*"),
        ("a:b", "a:b"),
        ("a@b", "a@b"),
        ("%2F%3F%23%5B%5D%40%3A%25%20%2C", "/?#[]@:% ,"),
        ("é", "é"),
    ],
)
def test_a_password_may_have_any_character(written: str, password: str) -> None:
    [url] = parse_urls([f"amqp://me:{written}@h:1/v"])
    assert (url.user, url.password, url.host, url.port) == ("me", password, "h", 1)
    assert printable(url) == "amqp://me:***@h:1/v"


@pytest.mark.parametrize(
    "texts",
    [
        ["amqp://a/ amqps://u:x,y@b/", "AMQP://c/"],
        ["amqp://a/,amqps://u:x,y@b/,\n AMQP://c/,"],
        [" amqp://a/", "amqps://u:x,y@b/, AMQP://c/"],
    ],
)
def test_a_text_may_hold_several(texts: list[str]) -> None:
    urls = parse_urls(texts)
    assert [printable(url) for url in urls] == ["amqp://a/", "amqps://u:***@b/", "amqp://c/"]
    assert urls[1].password == "x,y"


def test_of_several_the_wrong_one_is_named_by_its_number() -> None:
    with pytest.raises(ValueError, match=r"^number 2 of 3 is not a broker URL: its user or passw"):
        parse_urls(["amqp://a/ amqp://u:[@b/", "amqp://c/"])


def test_there_must_be_one() -> None:
    for none in ([], [""], [" , "]):
        with pytest.raises(ValueError, match="no broker URL is given"):
            parse_urls(none)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://me:secret@h/v?heartbeat=5", "amqp://me:***@h/v"),
        ("amqp://secret@h/", "amqp://***@h/"),
        ("amqp://me%3Asecret@h/", "amqp://***@h/"),
        ("amqp://me:12/secret%40h/", "amqp://me:12/***"),
        ("amqp://a/,me:secret", "amqp://a/***"),
    ],
)
def test_what_people_see_of_one(text: str, shown: str) -> None:
    assert [printable(url) for url in parse_urls([text])] == [shown]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("cacertfile=x&cafiel=y", "unknown options: 'cacertfile', 'cafiel'; known are heartbeat"),
        ("name=x", "unknown options: 'name'"),
        ("cafiel", "unknown options: 'cafiel'"),
        ("heartbeat=soon", "heartbeat=soon of amqp://u:\\*\\*\\*@h/ is not a number"),
        ("heartbeat=65536", "is not a number of seconds up to 65535"),
        ("heartbeat=", "heartbeat of .* is empty"),
        ("heartbeat=1&heartbeat=2", "heartbeat of .* is given more than once"),
        ("no_verify_ssl=1", "has no_verify_ssl, which only amqps:// takes"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(query: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        parse_urls([f"amqp://u:secret@h/?{query}"])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unexpected argument (amqp://u:a/@b c@h/)", "unexpected argument (***@h/)"),
        ("unexpected argument (b@h/)", "unexpected argument (***@h/)"),
        ("'u:a@h' is not an integer", "'***@h' is not an integer"),
        ("for '--prefetch': 'u:a b@h' is no", "for '--prefetch': '***@h' is no"),
        ("not a URL amqp://u:a@h", "not a URL ***@h"),
        ("No such option: --bogus", "No such option: --bogus"),
    ],
)
def test_a_sentence_that_quotes_a_url_is_shown_without_its_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_hosts_begin_at_a_random_one_and_go_on_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = parse_urls(["amqp://a/ amqp://b/ amqp://c/"])
    assert in_order(urls, HostOrder.GIVEN) == urls
    for first in range(3):
        monkeypatch.setattr(random, "randrange", lambda stop, first=first: min(first, stop - 1))
        assert in_order(urls, HostOrder.RANDOM) == urls[first:] + urls[:first]
    monkeypatch.undo()
    begun = {in_order(urls, HostOrder.RANDOM)[0] for _ in range(200)}
    assert begun == set(urls)
