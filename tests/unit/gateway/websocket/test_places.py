"""How many connections there may be."""

import pytest

from bridge.gateway.websocket import places as module
from bridge.gateway.websocket.places import Places, address_of


class Peer:
    def __init__(self) -> None:
        self.reason = ""

    def cut_off(self, reason: str) -> None:
        self.reason = reason


def enter(places: Places, address: str) -> Peer:
    peer = Peer()
    places.enter(peer, address)
    return peer


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:2", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_address_is_what_one_peer_can_have_at_will(host: str, address: str) -> None:
    assert address_of(host) == address


def test_the_oldest_unfinished_handshake_of_the_busiest_address_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "OPENING_MAX", 4)
    places = Places(100, 100)
    honest = enter(places, "a")
    asked = enter(places, "b")
    places.has_asked(asked)
    many = [enter(places, "b") for _ in range(4)]
    assert [peer.reason != "" for peer in many] == [True, False, False, False]
    enter(places, "c")
    assert [peer.reason != "" for peer in many] == [True, True, False, False]
    assert honest.reason == asked.reason == ""


def test_places_are_bounded_in_all_and_by_address() -> None:
    places = Places(4, 2)
    first, second, third = (enter(places, "a") for _ in range(3))
    assert third.reason == module.TOO_MANY_OF_ONE
    places.leave(third)
    places.leave(third)
    places.has_asked(first)
    places.has_asked(second)
    for address in "bc":
        places.has_asked(enter(places, address))
    assert enter(places, "d").reason == module.TOO_MANY
    assert len(places) == 5  # until it has left
    places.leave(first)
    assert len(places) == 4
