"""Passwords of stations, and the file that holds their hashes."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from bridge.gateway.websocket.passwords import (
    MEMORY_MAX,
    PasswordFile,
    PasswordHash,
    SharedPassword,
    parse_password_file,
)

FOREIGN = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
"""A hash by another implementation: passlib's documentation gives it for "password"."""
KEY = bytes.fromhex("0001020304050607FFFFFFCCCCCCCCCCCCCCCCCC")


def test_a_hash_fits_its_password_and_no_other() -> None:
    kept = PasswordHash.of(KEY)
    assert kept.fits(KEY)
    assert not kept.fits(KEY[:-1])
    assert not kept.fits(b"")


@pytest.mark.parametrize(
    ("password", "another"),
    [
        (b"secret", b"secret\0"),
        (b"secret\0", b"secret"),
        (b"secret\0", b"secret\0\0"),
        (bytes(20), b""),
        (bytes(20), bytes(19)),
        (b"", b"\0"),
        (KEY[:19] + b"\0", KEY[:19]),
        (b"s" * 64, b"s" * 64 + b"\0"),
        (b"s" * 65, hashlib.sha256(b"s" * 65).digest()),
    ],
)
def test_passwords_that_hmac_takes_for_one_are_two(password: bytes, another: bytes) -> None:
    kept = PasswordHash.parse(str(PasswordHash.of(password)))
    assert kept.fits(password)
    assert not kept.fits(another)
    assert not PasswordHash.of(another).fits(password)


def test_a_hash_is_read_as_it_is_written_and_never_the_same_twice() -> None:
    kept = PasswordHash.of(b"secret")
    assert PasswordHash.parse(str(kept)) == kept
    assert str(PasswordHash.of(b"secret")) != str(kept)
    assert ":" not in str(kept)


def test_a_hash_of_another_implementation_is_read() -> None:
    kept = PasswordHash.parse(FOREIGN)
    assert kept.fits(b"password")
    assert not kept.fits(b"Password")
    assert str(kept) == FOREIGN


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("secret", "the hash is not $scrypt$"),
        ("$2b$12$abc", "the hash is not $scrypt$"),
        (FOREIGN.replace("ln=16", "ln=30"), "checking it would take 1048576 MiB"),
        (FOREIGN.replace("r=8", "r=999"), "checking it would take"),
        (FOREIGN.replace("r=8", "r=1"), "ln is less than 16 times r"),
        (FOREIGN.replace("p=1", "p=99"), "times too long"),
        (FOREIGN.replace("ln=16", "ln=0"), "ln, r and p are 1 or more"),
        (
            FOREIGN.replace("aM15713r3Xsvxbi31lqr1Q", "aM15713r3Xsvx"),
            "salt and hash are not base64",
        ),
    ],
)
def test_what_is_no_hash_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^line 1: ") as caught:
        parse_password_file(f"CP001:{text}")
    assert told in str(caught.value)


@pytest.mark.parametrize("parameters", ["ln=15,r=1,p=1", "ln=1,r=1,p=99", "ln=12,r=8,p=99"])
def test_what_is_read_can_be_checked(parameters: str) -> None:
    """Parameters that scrypt refuses would cost a station an error at each login."""
    assert not PasswordHash.parse(FOREIGN.replace("ln=16,r=8,p=1", parameters)).fits(b"x")


def test_the_memory_a_check_takes_is_bounded() -> None:
    largest = FOREIGN.replace("ln=16", "ln=17").replace("r=8", "r=15")
    assert PasswordHash.parse(largest).memory <= MEMORY_MAX


def test_a_file_has_a_line_for_each_station() -> None:
    hashes = parse_password_file(
        f"# lab\n\nCP001:{FOREIGN}\n  A:1:{FOREIGN}  \nSäule 1:{FOREIGN}\n"
    )
    assert list(hashes) == ["CP001", "A:1", "Säule 1"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("CP001", "line 1: expected STATION_ID:HASH"),
        (f":{FOREIGN}", "line 1: expected STATION_ID:HASH"),
        (f"A:{FOREIGN}\n" * 9, "line 9: a station has at most 8 lines"),
        (f"A:{FOREIGN} admin", "line 1: the hash is not"),
    ],
)
def test_a_line_that_is_none_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_password_file(text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    path.write_text(f"CP001:{PasswordHash.of(b'one')}\n")
    return path


def test_a_station_is_let_in_with_its_own_password_only(file: Path) -> None:
    passwords = PasswordFile(file)
    assert passwords.check("CP001", b"one")
    assert not passwords.check("CP001", b"two")
    assert not passwords.check("CP002", b"one")
    assert not passwords.check("", b"one")


def test_a_station_may_have_several_passwords_and_a_user_name_that_is_not_its_id(
    tmp_path: Path,
) -> None:
    file = tmp_path / "passwords"
    lines = [
        f"A:1:{PasswordHash.of(KEY)}",
        f"A:1:{PasswordHash.of(KEY.hex().encode())}",
        f"A:1:{PasswordHash.of(b'other')} user=admin of A",
        f"B:{PasswordHash.of(b'own')} user=B",
    ]
    file.write_text("\n".join(lines))
    passwords = PasswordFile(file)
    assert passwords.check("A:1", KEY)
    assert passwords.check("A:1", KEY.hex().encode())
    assert passwords.check("A:1", b"other", "admin of A")
    assert passwords.check("B", b"own"), "its id may be named, too"
    for station, password, user in (
        ("A:1", b"other", None),
        ("A:1", KEY, "admin of A"),
        ("A:1", b"other", "admin"),
        ("B", b"other", "admin of A"),
        ("C", b"other", "admin of A"),
    ):
        assert not passwords.check(station, password, user)


def test_a_file_that_has_not_changed_is_not_read_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read_text = Path.read_text

    def counted(path: Path, *args: Any, **options: Any) -> str:
        reads.append(path)
        return read_text(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    monkeypatch.setattr("bridge.gateway.websocket.passwords.SETTLED", -1)  # no file is too young
    passwords = PasswordFile(file)
    for _ in range(3):
        assert passwords.check("CP001", b"one")
    assert reads == [file]
    rewrite(file, f"CP001:{PasswordHash.of(b'two')}\n")
    for _ in range(3):
        assert passwords.check("CP001", b"two")
    assert reads == [file, file]
    rewrite(file, "nonsense")
    for _ in range(3):
        assert passwords.check("CP001", b"two")
    assert reads == [file, file, file], "a broken one is not tried again and again"


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)
    # The clock of a coarse file system may not have moved.
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(file: Path) -> None:
    passwords = PasswordFile(file)
    rewrite(file, "nonsense")
    assert passwords.check("CP001", b"one")
    rewrite(file, f"CP002:{PasswordHash.of(b'two')}\n")
    assert passwords.check("CP002", b"two")
    assert not passwords.check("CP001", b"one")
    file.unlink()
    assert passwords.check("CP002", b"two")


def test_a_change_of_equal_size_and_time_is_seen(file: Path) -> None:
    old, new = PasswordHash.of(b"old"), PasswordHash.of(b"new")
    file.write_text(f"CP001:{old}\n")
    os.utime(file, ns=(0, 0))
    passwords = PasswordFile(file)
    assert passwords.check("CP001", b"old")
    other = file.with_name("other")
    other.write_text(f"CP001:{new}\n")
    os.utime(other, ns=(0, 0))
    other.rename(file)
    assert passwords.check("CP001", b"new")
    file.write_text(f"CP001:{old}\n")
    os.utime(file, ns=(0, 0))
    assert passwords.check("CP001", b"old")


def test_what_let_a_station_in_holds_until_its_line_changes(file: Path) -> None:
    passwords = PasswordFile(file)
    entry = passwords.check("CP001", b"one")
    before = passwords.refresh()
    assert passwords.holds("CP001", entry)
    assert not passwords.holds("CP002", entry)
    assert not passwords.holds("CP001", None)
    rewrite(file, file.read_text() + f"CP002:{PasswordHash.of(b'two')}\n")
    assert passwords.refresh() == before + 1
    assert passwords.holds("CP001", entry)
    rewrite(file, f"CP001:{PasswordHash.of(b'one')}\n")
    passwords.refresh()
    assert not passwords.holds("CP001", entry)


def test_a_broken_file_is_told_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    passwords = PasswordFile(file)
    rewrite(file, "nonsense")
    for _ in range(3):
        assert passwords.check("CP001", b"one")
    assert len(caplog.records) == 1


def test_an_unknown_station_costs_as_much_as_a_known_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costly = PasswordHash.parse(FOREIGN)
    file.write_text(f"CP001:{costly}\nCP002:{costly}\n")
    passwords = PasswordFile(file)
    computed: list[PasswordHash] = []

    def fits(self: PasswordHash, password: bytes) -> bool:
        computed.append(self)
        return True

    monkeypatch.setattr(PasswordHash, "fits", fits)
    assert passwords.check("unknown", b"one") is None
    assert computed == [costly]


def test_an_unknown_user_costs_as_many_lines_as_a_known_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passwords"
    lines = [f"A:{PasswordHash.parse(FOREIGN)}"] * 3
    file.write_text("\n".join([*lines, *(f"B:{FOREIGN} user=admin" for _ in range(3))]))
    passwords = PasswordFile(file)
    computed: list[PasswordHash] = []

    def fits(self: PasswordHash, password: bytes) -> bool:
        computed.append(self)
        return False

    monkeypatch.setattr(PasswordHash, "fits", fits)
    for station, user in (("A", None), ("A", "admin"), ("B", None), ("B", "admin"), ("C", "me")):
        computed.clear()
        assert passwords.check(station, b"one", user) is None
        assert len(computed) == 3


def test_a_station_that_came_in_by_one_of_its_lines_stays_as_long_as_that_line(
    tmp_path: Path,
) -> None:
    file = tmp_path / "passwords"
    old, new = (f"A:{PasswordHash.of(key)}\n" for key in (b"old", b"new"))
    file.write_text(old)
    passwords = PasswordFile(file)
    entry = passwords.check("A", b"old")
    rewrite(file, old + new)
    passwords.refresh()
    assert passwords.holds("A", entry), "a second line changes nothing"
    rewrite(file, new + old.replace("\n", " user=admin\n"))
    passwords.refresh()
    assert not passwords.holds("A", entry), "the line is for another user now"
    assert passwords.holds("A", passwords.check("A", b"new"))
    assert passwords.holds("A", passwords.check("A", b"old", "admin"))


def test_a_file_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        PasswordFile(tmp_path / "nowhere")


def test_one_password_for_all() -> None:
    passwords = SharedPassword(b"lab")
    assert passwords.check("anybody", b"lab")
    assert not passwords.check("anybody", b"la")
    assert not passwords.check("anybody", b"")
    assert not passwords.check("anybody", b"lab", "somebody")
