"""The gateway's TLS: certificate, key and the stations' authorities, read again when they change.

Each handshake uses what was read last, and a look at the files is taken before one, at most once a
second; the gateway takes one every few seconds as well, so that the log and the metrics are true
while nobody connects. So a certificate is renewed without a restart, and connections that are open
stay open. A new context has new keys for session tickets as well: nobody resumes a session past an
authority that is trusted no more.
"""

import enum
import hashlib
import ssl
import time
from pathlib import Path
from typing import Final

from bridge.telemetry.certificates import expires_at
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.gateway")

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the files, at least."""
SETTLED: Final = 2.0
"""Seconds after which a file is taken for written: certificate and key are written one after the
other, and some file systems tell whole seconds only."""
DEFAULT_CIPHERS: Final = (
    "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
)
"""The suites of TLS 1.2 that CPython offers by itself. Distributions build it to offer others."""
_HINT: Final = "the one before stays in use"


class TlsVersion(enum.StrEnum):
    """The least version of TLS: OCPP's security profiles ask for 1.2 or later."""

    V1_2 = "1.2"
    V1_3 = "1.3"


_VERSIONS: Final = {
    TlsVersion.V1_2: ssl.TLSVersion.TLSv1_2,
    TlsVersion.V1_3: ssl.TLSVersion.TLSv1_3,
}


class Certificates:
    """What the handshakes with stations need, from files."""

    def __init__(
        self,
        cert: Path,
        key: Path,
        client_ca: Path | None = None,
        *,
        ciphers: str | None = None,
        least: TlsVersion = TlsVersion.V1_2,
    ) -> None:
        """`cert`: the certificate chain, PEM. `key`: its private key, PEM, without a pass phrase:
        nobody is there to be asked for it. `client_ca`: who signs the stations' certificates, which
        are required then. `ciphers`: suites of TLS 1.2 as OpenSSL lists them; None:
        :data:`DEFAULT_CIPHERS`.

        Raises ValueError with a sentence for people.
        """
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._ciphers = DEFAULT_CIPHERS if ciphers is None else ciphers
        self._least = least
        self.expires_at: float | None = None
        """When the chain in use ceases to be valid, in seconds of Unix time, whatever its file has
        by now. None: it cannot be told."""
        self._told = ""
        self._looked_at = time.monotonic()
        self._stamps: tuple[tuple[int, ...], ...] = ()
        self._context = self._read()
        self._held = self._digest()

    @property
    def verifies(self) -> bool:
        """Whether stations must have certificates."""
        return self._client_ca is not None

    def context(self) -> ssl.SSLContext:
        """For the next handshake. Never raises: what cannot be read does not replace what was."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self._look()
        return self._context

    def _look(self) -> None:
        settled = True
        try:
            stamps = self._files()
            if stamps == self._stamps:
                return
            settled = time.time_ns() - max(changed for changed, *_ in stamps) > SETTLED * 1e9
            if (digest := self._digest()) != self._held:
                self._context = self._read()
                self._held = digest
                log.info("certificate read again", cert=str(self._cert))
        except (OSError, ValueError) as error:
            # One half of a pair may have been written, and the other not yet.
            if settled and str(error) != self._told:
                self._told = str(error)
                log.warning("certificate not read", reason=self._told, hint=_HINT)
            return
        # A young file may change once more without another time: it is read again next time.
        self._stamps = stamps if settled else ()
        self._told = ""

    @property
    def _paths(self) -> list[Path]:
        return [path for path in (self._cert, self._key, self._client_ca) if path is not None]

    def _files(self) -> tuple[tuple[int, ...], ...]:
        """Of each, what differs after any change; the first is when that was."""
        stats = [path.stat() for path in self._paths]
        return tuple((s.st_ctime_ns, s.st_mtime_ns, s.st_size, s.st_ino) for s in stats)

    def _digest(self) -> bytes:
        """Of all that is in them."""
        digest = hashlib.sha256()
        for path in self._paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.digest()

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._least]
        ends = expires_at(self._cert)
        try:
            context.load_cert_chain(self._cert, self._key, password="")
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"the certificate {self._cert} or its key {self._key} cannot be used: {error}"
            ) from None
        try:
            context.set_ciphers(self._ciphers)
        except ssl.SSLError:
            raise ValueError(f"{self._ciphers!r} names no cipher suite that OpenSSL has") from None
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(
                    f"the stations' certificate authority {self._client_ca}: {error}"
                ) from None
            context.verify_mode = ssl.CERT_REQUIRED
        self.expires_at = ends
        return context
