"""What a gateway reads in the opening HTTP request."""

import base64

import pytest

from bridge.gateway.websocket.handshake import (
    PREFERRED,
    BadTarget,
    choose_version,
    credentials,
    offered_versions,
    origin_allowed,
    password,
    station_id,
)
from bridge.ocpp import OcppVersion

V16, V20, V201, V21 = OcppVersion


@pytest.mark.parametrize(
    ("target", "prefix", "expected"),
    [
        ("/CP001", "", "CP001"),
        ("/ocpp/CP001", "/ocpp", "CP001"),
        ("/a/b/CP001", "/a/b", "CP001"),
        ("/CP001?token=1", "", "CP001"),
        ("/RDAM%20123", "", "RDAM 123"),
        ("/RDAM%7C123", "", "RDAM|123"),
        ("/a%2Fb", "", "a/b"),
        ("/S%C3%A4ule", "", "Säule"),
        ("/" + "x" * 255, "", "x" * 255),
        ("/", "", None),
        ("", "", None),
        ("/ocpp", "/ocpp", None),
        ("/ocpp/", "/ocpp", None),
        ("/ocppx/CP001", "/ocpp", None),
        ("/CP001", "/ocpp", None),
        ("/other/CP001", "", None),
        ("/CP001/", "", "CP001"),
        ("//CP001", "", "CP001"),
        ("/ocpp//CP001//?x=/y", "/ocpp", "CP001"),
        ("//ocpp/CP001", "/ocpp/", "CP001"),
        ("ws://host/CP001", "", "CP001"),
        ("WSS://host:9000//ocpp/CP001/?q", "/ocpp", "CP001"),
        ("http://user@[::1]:80/CP001", "", "CP001"),
        ("https://host", "", None),
        ("ws://host?CP001", "", None),
        ("/ws://host/CP001", "", None),
        ("/acme/CP001", "/*/{id}", "CP001"),
        ("/CP001", "/*/{id}", None),
        ("/acme/x/CP001", "/*/{id}", None),
        ("/ocpp/acme/CP%20001", "/ocpp/{id}/{id}", "acme/CP 001"),
        ("/ocpp/CP001/v16", "/ocpp/{id}/*", "CP001"),
        ("/other/CP001/v16", "/ocpp/{id}/*", None),
        ("/" + "x" * 128 + "/" + "x" * 127, "/{id}/{id}", None),
        ("/CP%00", "", None),
        ("/CP%0A1", "", None),
        ("/" + "x" * 256, "", None),
    ],
)
def test_the_path_ends_with_the_station(target: str, prefix: str, expected: str | None) -> None:
    assert station_id(target, prefix) == expected


@pytest.mark.parametrize(
    "target", ["/CP%", "/CP%2", "/CP%zz", "/%%41", "/CP%e9", "/%ff", "ws://host/%"]
)
def test_invalid_percent_encoding_is_told_apart(target: str) -> None:
    with pytest.raises(BadTarget):
        station_id(target, "")


def basic(credentials: bytes) -> str:
    return "Basic " + base64.b64encode(credentials).decode()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (basic(b"CP001:secret"), b"secret"),
        (basic(b"CP001:secret").replace("Basic", "basic"), b"secret"),
        (basic(b"CP001:with:colons"), b"with:colons"),
        (basic(b"CP001:"), b""),
        # The example of OCPP-J 1.6 §6.2.2: 20 bytes that are not text.
        (
            basic(b"CP001:" + bytes.fromhex("0001020304050607FFFFFF")),
            bytes.fromhex("0001020304050607FFFFFF"),
        ),
        (None, None),
        ("", None),
        (basic(b"CP002:secret"), None),
        (basic(b"cp001:secret"), None),
        (basic(b"CP001"), None),
        ("Bearer abc", None),
        ("Basic", None),
        ("Basic !!!", None),
        ("Basic é", None),
    ],
)
def test_the_password_is_that_of_the_station_in_the_path(
    header: str | None, expected: bytes | None
) -> None:
    assert password(header, "CP001") == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (basic(b"CP001:secret"), (b"secret", None)),
        (basic(b"admin:se:cret"), (b"se:cret", "admin")),
        (basic(b":secret"), (b"secret", "")),
        (basic(b"\xff:secret"), None),
        (basic(b"admin"), None),
        (None, None),
    ],
)
def test_a_user_who_is_not_the_station_is_named(
    header: str | None, expected: tuple[bytes, str | None] | None
) -> None:
    assert credentials(header, "CP001") == expected


def test_a_station_id_may_hold_colons() -> None:
    assert password(basic(b"A:1:secret"), "A:1") == b"secret"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["ocpp1.6"], V16),
        (["ocpp1.6", "ocpp2.0.1", "ocpp2.1"], V21),
        (["ocpp1.6", "ocpp2.0.1"], V201),
        (["ocpp2.0", "ocpp1.6"], V20),
        (["ocpp1.5", "ocpp1.6"], V16),
        (["ocpp1.5"], None),
        (["OCPP1.6"], None),
        ([], None),
    ],
)
def test_the_gateways_preference_decides(offered: list[str], chosen: OcppVersion | None) -> None:
    assert choose_version(offered) == chosen


def test_what_is_offered_may_stand_in_one_header_or_several() -> None:
    assert offered_versions([]) == []
    assert offered_versions(["ocpp1.6, ocpp2.0.1,,", " ocpp2.1 "]) == [
        "ocpp1.6",
        "ocpp2.0.1",
        "ocpp2.1",
    ]


def test_the_preference_can_be_another() -> None:
    assert choose_version(["ocpp2.1", "ocpp1.6"], (V16, V201)) == V16
    assert choose_version(["ocpp2.1"], (V16, V201)) is None
    assert set(PREFERRED) == set(OcppVersion)


@pytest.mark.parametrize(
    ("origins", "host", "any_name", "expected"),
    [
        ([], "localhost:9000", False, True),  # a station
        (["http://localhost:9000"], "localhost:9000", False, True),  # a library that sends its own
        (["http://127.0.0.1:9000/"], "127.0.0.1:9000", False, True),
        (["HTTPS://[::1]"], "[::1]:443", False, True),
        (["http://10.0.0.1"], "10.0.0.1", False, True),
        (["https://evil.example"], "localhost:9000", False, False),
        (["http://localhost"], "localhost:9000", False, False),
        (["http://localhost:9000", "http://localhost:9000"], "localhost:9000", False, False),
        (["null"], "localhost:9000", False, False),
        (["http://localhost:x"], "localhost:9000", False, False),
        (["http://[::1"], "localhost:9000", False, False),
        # A page whose name points to this machine (DNS rebinding) has no password.
        (["http://evil.example:9000"], "evil.example:9000", False, False),
        (["http://csms.example:9000"], "csms.example:9000", True, True),
        (["https://app.example"], "localhost:9000", False, True),
    ],
)
def test_a_web_page_is_known_by_its_origin(
    origins: list[str], host: str, any_name: bool, expected: bool
) -> None:
    allowed = ["https://app.example/"]
    assert origin_allowed(origins, [host], allowed, any_name=any_name) is expected
    assert origin_allowed(origins, [host], ["*"], any_name=any_name)
