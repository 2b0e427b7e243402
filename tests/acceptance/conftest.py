"""What the tests of the guides share: their files saved, and the broker that they find."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.walking import Saved, blocks


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Saved]:
    """Saves the files that a guide names, where Python finds them as a reader's does."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def save(guide: str) -> Path:
        for block in blocks(f"how-to/{guide}"):
            if block.file is not None:
                path = tmp_path / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
        importlib.invalidate_caches()
        return tmp_path

    yield save
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)) or name == "my_vendors":
            del sys.modules[name]


@pytest.fixture
def guide_url(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The broker, as the guides' code finds it."""
    monkeypatch.setenv("AMQP_URL", amqp_url)
    return amqp_url
