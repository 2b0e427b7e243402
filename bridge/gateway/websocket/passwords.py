"""Passwords of charging stations, for HTTP Basic authentication (OCPP's security profiles 1 and 2).

A password file has lines ``STATION_ID:HASH``. A station may have several: the old password and the
new one while its key is changed, or a key as bytes and as the text of its hexadecimal digits. The
hash is scrypt (RFC 7914) in the PHC string format, as passlib and others write it:
``$scrypt$ln=12,r=8,p=1$SALT$HASH``, with salt and hash in base64 without padding. A station whose
user name is not its id has it at the end of its line: ``STATION_ID:HASH user=NAME``. A station id
may hold colons; what follows holds none (RFC 7617 §2). A password is bytes: in OCPP 1.6 it is a key
of 20 arbitrary bytes (OCPP-J 1.6 §6.2.2).
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from bridge.request.outcome import describe_error
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.gateway")

COST: Final = 12
"""log2 of scrypt's N for new hashes: 4 MiB and about 10 ms for each station that connects. OCPP's
passwords are 16 to 40 random characters (OCPP 2.0.1 A00, security profile 1), which no dictionary
holds. So the hash need only protect a file that has leaked, and must be cheap enough to let in a
whole fleet that reconnects at once."""

BLOCK_SIZE: Final = 8
"""scrypt's r for new hashes."""

SALT_LENGTH: Final = 16
"""Bytes of the salt in new hashes."""

HASH_LENGTH: Final = 32
"""Bytes of the digest in new hashes."""

MEMORY_MAX: Final = 256 * 1024 * 1024
"""Bytes of memory that checking one password may take, twice the most that OWASP advises. A line
that asks for more is refused."""

WORK_MAX: Final = 1 << 22
"""N times r times p: some 5 s of a core for one check, four times the most that OWASP advises. A
line that asks for more is refused."""

SETTLED: Final = 2_000_000_000
"""Nanoseconds after which a change of a file surely shows in its times, on any file system."""
LINES_PER_STATION: Final = 8
"""Lines that a station may have at most: each is a hash that a wrong password is compared with."""

_HMAC_BLOCK: Final = 64
"""Bytes of a block of SHA-256. HMAC pads a shorter key with zeros, and hashes a longer one (RFC
2104 §2)."""

_USER: Final = " user="

_PHC: Final = re.compile(
    r"\$scrypt\$ln=(?P<cost>\d{1,2}),r=(?P<block_size>\d{1,3}),p=(?P<parallel>\d{1,2})"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,86})\$(?P<hash>[A-Za-z0-9+/]{22,86})"
)


class Passwords(Protocol):
    """Who may connect."""

    def check(self, station_id: str, password: bytes, user: str | None = None) -> object | None:
        """What lets the station in with this password, for :meth:`holds`; None if nothing does.

        `user`: its user name, if that is not its id.

        It takes as long for an unknown station as for a known one. It may take CPU time, so call it
        in a thread.
        """

    def holds(self, station_id: str, entry: object) -> bool:
        """Whether what :meth:`check` returned lets the station in still. Takes no time."""

    def refresh(self) -> int:
        """Read the passwords again if they have changed; the number of times they have.

        It may wait for a disk, so call it in a thread.
        """


class SharedPassword:
    """One password for every station. Meant for labs."""

    def __init__(self, password: bytes) -> None:
        self._password = password

    def check(self, station_id: str, password: bytes, user: str | None = None) -> bytes | None:
        fits = hmac.compare_digest(self._password, password) and user is None
        return self._password if fits else None

    def holds(self, station_id: str, entry: object) -> bool:
        return entry == self._password

    def refresh(self) -> int:
        return 0


class PasswordHash(Struct, frozen=True):
    """The scrypt hash of a password, and its parameters (RFC 7914 §2)."""

    cost: int
    """log2 of N."""
    block_size: int
    """r."""
    parallel: int
    """p."""
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: bytes) -> "PasswordHash":
        """The hash of `password`, with a new random salt."""
        empty = cls(COST, BLOCK_SIZE, 1, secrets.token_bytes(SALT_LENGTH), bytes(HASH_LENGTH))
        return cls(
            empty.cost, empty.block_size, empty.parallel, empty.salt, empty._compute(password)
        )

    @classmethod
    def parse(cls, text: str) -> "PasswordHash":
        """The hash in `text`, which is in the PHC string format.

        Raises ValueError, whose text says what is wrong, for any other text.
        """
        match = _PHC.fullmatch(text)
        if match is None:
            raise ValueError("the hash is not $scrypt$ln=…,r=…,p=…$SALT$HASH")
        try:
            salt, digest = _decode(match["salt"]), _decode(match["hash"])
        except binascii.Error:
            raise ValueError("salt and hash are not base64") from None
        found = cls(
            int(match["cost"]), int(match["block_size"]), int(match["parallel"]), salt, digest
        )
        if 0 in {found.cost, found.block_size, found.parallel}:
            raise ValueError("ln, r and p are 1 or more")
        if found.cost >= 16 * found.block_size:
            raise ValueError("ln is less than 16 times r (RFC 7914)")
        if found.memory > MEMORY_MAX:
            needed, given = found.memory >> 20, MEMORY_MAX >> 20
            raise ValueError(f"checking it would take {needed} MiB, and at most {given} are given")
        if found.work > WORK_MAX:
            raise ValueError(f"checking it would take {found.work // WORK_MAX + 1} times too long")
        return found

    @property
    def memory(self) -> int:
        """Bytes of memory that computing the hash takes (RFC 7914 §2)."""
        return 128 * self.block_size * ((1 << self.cost) + self.parallel)

    @property
    def work(self) -> int:
        """What the time of computing the hash is proportional to: N times r times p."""
        return (1 << self.cost) * self.block_size * self.parallel

    def fits(self, password: bytes) -> bool:
        """Whether this is the hash of `password`."""
        return hmac.compare_digest(self._compute(password), self.digest)

    def _compute(self, password: bytes) -> bytes:
        return hashlib.scrypt(
            _key(password),
            salt=self.salt,
            n=1 << self.cost,
            r=self.block_size,
            p=self.parallel,
            maxmem=self.memory + 1024 * 1024,
            dklen=len(self.digest),
        )

    def __str__(self) -> str:
        """The hash in the PHC string format."""
        numbers = f"ln={self.cost},r={self.block_size},p={self.parallel}"
        return f"$scrypt${numbers}${_encode(self.salt)}${_encode(self.digest)}"


def _key(password: bytes) -> bytes:
    """What is hashed for a password: most often the password itself.

    scrypt begins with HMAC, for which a key and the same key followed by zeros are one (a key of
    zeros and an empty one, too), and so are a long key and its digest. So a password that ends with
    a zero, is empty or is longer than a block is hashed by its digest.
    """
    if password and len(password) <= _HMAC_BLOCK and not password.endswith(b"\0"):
        return password
    return b"dtbridge" + hashlib.sha256(password).digest() + b"\1"


def _encode(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


class Line(Struct, frozen=True):
    """One line of the file: what lets a station in."""

    user: str | None
    """None: the station's id."""
    hash: PasswordHash


class StationHashes(Struct):
    """What the lines of one station say."""

    lines: list[Line] = []

    def add(self, hash_: PasswordHash, user: str | None = None) -> None:
        """One more line. `user`: None is the station's id. Raises ValueError if there are many."""
        if len(self.lines) >= LINES_PER_STATION:
            raise ValueError(f"a station has at most {LINES_PER_STATION} lines")
        self.lines.append(Line(user, hash_))

    def of(self, user: str | None) -> tuple[Line, ...]:
        """The lines for this user name."""
        return tuple(line for line in self.lines if line.user == user)

    def groups(self) -> list[tuple[Line, ...]]:
        """The lines for each user name."""
        return [self.of(user) for user in dict.fromkeys(line.user for line in self.lines)]

    def fits(self, password: bytes, user: str | None = None) -> bool:
        """Whether a line for this user name has the hash of `password`."""
        return _fitting(self.of(user), password) is not None


def _fitting(lines: tuple[Line, ...], password: bytes) -> Line | None:
    return next((line for line in lines if line.hash.fits(password)), None)


def parse_password_file(text: str) -> dict[str, StationHashes]:
    """The hashes of each station. Empty lines and lines that begin with # are skipped.

    Raises ValueError, whose text names the line, for an invalid line or one too many of a station.
    """
    hashes: dict[str, StationHashes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        station_id, colon, rest = line.strip().rpartition(":")
        if not colon or not station_id:
            raise ValueError(f"line {number}: expected STATION_ID:HASH")
        hash_, _, user = rest.partition(_USER)
        named = user if user and user != station_id else None
        try:
            hashes.setdefault(station_id, StationHashes()).add(PasswordHash.parse(hash_), named)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return hashes


def _groups(hashes: dict[str, StationHashes]) -> list[tuple[Line, ...]]:
    return [group for station in hashes.values() for group in station.groups()]


class PasswordFile:
    """The passwords in a file. It is read again when it changes: new stations need no restart."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises OSError or ValueError if that fails."""
        self._path = path
        self._secret = secrets.token_bytes(SALT_LENGTH)
        self._nobody = (Line(None, PasswordHash.of(secrets.token_bytes(SALT_LENGTH))),)
        self._changes = 0
        self._refused = ""
        self._stamp: tuple[int, ...] | None = None
        self._hashes = self._read(self._last_change())
        self._stand_ins = _groups(self._hashes)

    def _last_change(self) -> tuple[int, ...]:
        """Differs after any change, also one of equal size whose time was set back."""
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino

    def _read(self, stamp: tuple[int, ...]) -> dict[str, StationHashes]:
        # A young file may change once more without another time: it is read again next time.
        settled = abs(time.time_ns() - stamp[1]) > SETTLED
        self._stamp = stamp if settled else None
        return parse_password_file(self._path.read_text(encoding="utf-8"))

    def check(self, station_id: str, password: bytes, user: str | None = None) -> Line | None:
        self.refresh()
        known = self._hashes.get(station_id)
        lines = () if known is None else known.of(user)
        fitting = _fitting(lines or self._stand_in(station_id, user), password)
        return fitting if lines else None

    def _stand_in(self, station_id: str, user: str | None) -> tuple[Line, ...]:
        """What is computed for an unknown station or user: the lines of another, always the same.

        So the time that an answer takes tells nothing, whatever the number of the lines is and
        their parameters are.
        """
        stand_ins = self._stand_ins
        if not stand_ins:
            return self._nobody
        name = repr((station_id, user)).encode()
        digest = hashlib.blake2b(name, key=self._secret).digest()
        return stand_ins[int.from_bytes(digest) % len(stand_ins)]

    def holds(self, station_id: str, entry: object) -> bool:
        known = self._hashes.get(station_id)
        return known is not None and entry in known.lines

    def refresh(self) -> int:
        """Read the file again if it has changed.

        If that fails, what was read before stays in force until the file changes once more.
        """
        try:
            stamp = self._last_change()
            if stamp == self._stamp:
                return self._changes
            hashes = self._read(stamp)
        except (OSError, ValueError) as error:
            self._tell(describe_error(error))
            return self._changes
        self._refused = ""
        if hashes != self._hashes:
            self._hashes, self._stand_ins = hashes, _groups(hashes)
            self._changes += 1
            log.info("password file read", path=str(self._path), stations=len(hashes))
        return self._changes

    def _tell(self, error: str) -> None:
        """Once, not at each login."""
        if error != self._refused:
            log.warning("password file not read", path=str(self._path), error=error)
        self._refused = error
