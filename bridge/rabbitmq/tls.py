"""TLS towards the broker: what the options of its URL ask for.

The files are read and checked when a URL is parsed, and again at a connection once they have
changed, so that a certificate can be renewed under a worker. Nobody is ever asked for a pass
phrase: it comes from a file or from an environment variable.
"""

import base64
import binascii
import functools
import os
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from yarl import URL

_FILES: Final = ("cafile", "certfile", "keyfile", "keypassfile")
TLS_OPTIONS: Final = (*_FILES, "keypassenv", "capath", "cadata", "no_verify_ssl")
"""The options of a URL that are for TLS."""

_Stamps = tuple[tuple[int, int, int], ...]
"""Of each file: when it was changed, its size and its number."""


def tls_context(url: URL) -> ssl.SSLContext | None:
    """What a connection to `url` needs; None if it has neither TLS nor options for it.

    Raises ValueError with a sentence that names the file that cannot be used. Reads files.
    """
    options = tuple(sorted((name, url.query[name]) for name in TLS_OPTIONS if name in url.query))
    if not options and url.scheme != "amqps":
        return None
    return _context(options, _stamps(dict(options)))


def _stamps(options: Mapping[str, str]) -> _Stamps:
    """Checks that the files are there and can be read."""
    stamps = []
    for name in (*_FILES, "capath"):
        if name not in options:
            continue
        path = options[name]
        try:
            found = Path(path).stat()
            if name == "capath":
                any(Path(path).iterdir())
            elif not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{name}={path} is not a file")
            else:
                os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            raise ValueError(f"{name}={path} cannot be read: {error.strerror}") from None
        stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(stamps)


@functools.lru_cache(maxsize=32)
def _context(given: tuple[tuple[str, str], ...], _: _Stamps) -> ssl.SSLContext:
    options = dict(given)
    verify = options.get("no_verify_ssl", "0")
    if verify not in {"0", "1"}:
        raise ValueError("no_verify_ssl is 0 or 1")
    try:
        # In a query, a + that is not encoded is a space.
        text = options.get("cadata", "").replace(" ", "+")
        data = base64.b64decode(text, validate=True) or None
    except binascii.Error:
        raise ValueError("cadata is not base64") from None
    try:
        context = ssl.create_default_context(
            cafile=options.get("cafile"), capath=options.get("capath"), cadata=data
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        source = f"cafile={options['cafile']}" if "cafile" in options else "cadata"
        raise ValueError(f"{source} holds no certificates: {_reason(error)}") from None
    _load_own(context, options)
    if verify == "1":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_own(context: ssl.SSLContext, options: Mapping[str, str]) -> None:
    """The client's own certificate and key."""
    certificate, key = options.get("certfile"), options.get("keyfile")
    if certificate is None:
        if alone := [name for name in ("keyfile", "keypassfile", "keypassenv") if name in options]:
            raise ValueError(f"{', '.join(alone)} without certfile")
        return
    phrase = _pass_phrase(options)
    holder = key or certificate
    encrypted = b"ENCRYPTED" in Path(holder).read_bytes()
    if encrypted and not phrase:
        raise ValueError(
            f"the key in {holder} is encrypted and there is no pass phrase: name a file that holds "
            "it with keypassfile=, or an environment variable with keypassenv="
        )
    try:
        # Without `password`, OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password=phrase)
    except (OSError, ValueError) as error:
        if encrypted:
            raise ValueError(
                f"the key in {holder} cannot be opened with its pass phrase: {_reason(error)}"
            ) from None
        files = f"certfile={certificate}" + (f" with keyfile={key}" if key else "")
        reason = getattr(error, "reason", None) or "no certificate and key in PEM form"
        raise ValueError(f"{files} cannot be used: {reason}") from None


def _pass_phrase(options: Mapping[str, str]) -> bytes:
    if "keypassfile" in options:
        if "keypassenv" in options:
            raise ValueError("keypassfile and keypassenv exclude each other")
        return Path(options["keypassfile"]).read_bytes().rstrip(b"\r\n")
    name = options.get("keypassenv")
    if name is None:
        return b""
    if name not in os.environ:
        raise ValueError(f"keypassenv={name} is not in the environment")
    return os.fsencode(os.environ[name])


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error) or type(error).__name__
