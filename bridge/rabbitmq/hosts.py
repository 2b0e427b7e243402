"""A broker's hosts, as URLs. URLs, and passwords in them, may stand in files."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, overload

from yarl import URL

from bridge.rabbitmq.urls import parse_urls

FROM_FILE: Final = "@"
"""How a text begins that is the name of a file, and stands for what is in it."""
SECRET_MAX: Final = 64 * 1024
"""Bytes of such a file at most. A token has some kB."""
HELD_IN: Final = "passwordfile"
"""The option of a URL that names the file with its password."""


def read_secret(path: str) -> str:
    """What a file holds, without white space around it.

    Raises ValueError with a clause for people, which quotes nothing of it.
    """
    try:
        with Path(path).open("rb") as file:
            held = file.read(SECRET_MAX + 1)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    if len(held) > SECRET_MAX:
        raise ValueError(f"it holds more than {SECRET_MAX // 1024} kB")
    text = _decoded(held)
    if text is None:
        raise ValueError("it is not UTF-8")
    return text.strip()


def _decoded(held: bytes) -> str | None:
    """None: it is no UTF-8. An exception would carry the bytes."""
    try:
        return held.decode()
    except UnicodeDecodeError:
        return None


class Hosts(Sequence[URL]):
    """The URLs of a broker's hosts, as they were read last."""

    def __init__(self, texts: Sequence[str]) -> None:
        """`texts`: URLs; ``@FILE`` stands for those in a file. A text may hold several of them.

        The option ``passwordfile`` of a URL names the file that holds its password. Raises
        ValueError with a sentence for people.
        """
        self._texts = {
            number: text if not text.startswith(FROM_FILE) else _held(text[1:])
            for number, text in enumerate(texts)
        }
        self._files = {
            number: text[1:]
            for number, text in enumerate(texts)
            # What comes through a pipe is there once.
            if text.startswith(FROM_FILE) and _is_regular(text[1:])
        }
        self._urls = self._parse()

    @overload
    def __getitem__(self, index: int) -> URL: ...
    @overload
    def __getitem__(self, index: slice) -> list[URL]: ...
    def __getitem__(self, index: int | slice) -> URL | list[URL]:
        return self._urls[index]

    def __len__(self) -> int:
        return len(self._urls)

    def __repr__(self) -> str:
        return f"<Hosts {len(self)}>"

    @property
    def can_change(self) -> bool:
        """Whether anything of it stands in a file."""
        return bool(self._files) or any(HELD_IN in text for text in self._texts.values())

    def read_again(self) -> bool:
        """Read the files again. Returns whether a URL has become another one.

        Raises ValueError with a sentence for people; then all stays as it was read before.
        """
        before, texts = self._urls, self._texts
        self._texts = texts | {number: _held(path) for number, path in self._files.items()}
        try:
            self._urls = self._parse()
        except ValueError:
            self._texts = texts
            raise
        return self._urls != before

    def _parse(self) -> list[URL]:
        return [_with_password(url) for url in parse_urls(list(self._texts.values()))]


def _held(path: str) -> str:
    try:
        return read_secret(path)
    except ValueError as error:
        raise ValueError(f"the broker's URL cannot be read from the file {path}: {error}") from None


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - the same
    except (OSError, ValueError):
        return False


def _with_password(url: URL) -> URL:
    """With the password that a file holds, if an option names one."""
    path = url.query.get(HELD_IN)
    if path is None:
        return url
    if not url.user or url.password is not None:
        raise ValueError(f"{HELD_IN}={path} needs a user, and no password beside it")
    try:
        password = read_secret(path)
    except ValueError as error:
        raise ValueError(f"{HELD_IN}={path} cannot be read: {error}") from None
    if not password:
        raise ValueError(f"{HELD_IN}={path} is empty")
    query = [(name, value) for name, value in url.query.items() if name != HELD_IN]
    return url.with_query(query).with_password(password)
