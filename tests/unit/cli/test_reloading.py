"""What `--reload` watches."""

import sys
from pathlib import Path

import pytest

from bridge.cli.reloading import is_watched, watched


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "__init__.py").write_text("raise RuntimeError('it was imported')")
    outside = tmp_path / "elsewhere" / "outside"
    outside.mkdir(parents=True)
    (outside / "__init__.py").touch()
    (outside.parent / "single.py").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(outside.parent), *sys.path])
    return folder


def test_the_folder_and_the_packages_that_lie_elsewhere_are_watched(here: Path) -> None:
    places = watched(
        ["inside.a:router", "outside.b:router", "outside:r", "single:r"], here / "none.toml"
    )
    elsewhere = here.parent / "elsewhere"
    assert places == [here, elsewhere / "outside", elsewhere / "single.py"]


@pytest.mark.parametrize("target", ["nowhere:router", ":", "", "sys:path", ".:x", "zipimport:x"])
def test_a_target_that_is_nowhere_is_for_the_worker_to_tell(here: Path, target: str) -> None:
    assert here in watched([target], here / "none.toml")


def test_a_configuration_elsewhere_is_watched_too(here: Path) -> None:
    config = here.parent / "other.toml"
    config.touch()
    assert watched([], config) == [here, config]
    (here / "dtbridge.toml").touch()
    assert watched([], here / "dtbridge.toml") == [here]


def test_a_child_of_a_watched_process_is_told_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_watched()
    monkeypatch.setenv("_DTBRIDGE_RELOADED", "1")
    assert is_watched()
    assert not is_watched()
