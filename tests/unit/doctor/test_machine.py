"""Findings about this process and its machine."""

import importlib.metadata
import sys
from typing import Any

import msgspec
import pytest

from bridge.doctor import machine
from bridge.doctor.facts import Vendors
from bridge.doctor.findings import Check, Level
from bridge.doctor.machine import see_machine
from tests.unit.doctor.surroundings import MACHINE, told, worst


@pytest.mark.parametrize(
    ("check", "changes", "level", "words"),
    [
        (machine.check_python, {"uvloop": False}, Level.FAIL, "uvloop is not installed"),
        (machine.check_python, {"libraries": {"orjson": ""}}, Level.FAIL, "orjson cannot be found"),
        (machine.check_compiled, {"pure": True}, Level.WARN, "DTBRIDGE_PURE is set"),
        (machine.check_compiled, {"compiled": 0}, Level.WARN, "nothing is compiled"),
        (
            machine.check_compiled,
            {"compiled": 14, "plain": {"bridge.worker.intake": "ImportError: msgspec"}},
            Level.WARN,
            "1 of 15 compiled modules do not fit and run as plain Python, first bridge.worker",
        ),
        (machine.check_files, {"files": (256, 512)}, Level.WARN, "512 open files at most"),
        (machine.check_files, {"files": (256, 99_999)}, Level.WARN, "256 open files, and raise"),
        (machine.check_files, {"files": None}, Level.UNKNOWN, "does not tell"),
        (machine.check_clock, {"clock_synchronised": False}, Level.WARN, "synchronised"),
        (machine.check_clock, {"clock_synchronised": None}, Level.UNKNOWN, "does not tell"),
    ],
)
def test_what_may_be_wrong_with_a_machine(
    check: Check[Any], changes: dict[str, Any], level: Level, words: str
) -> None:
    found = worst(check, machine=msgspec.structs.replace(MACHINE, **changes))
    assert found.level is level
    assert words in found.sentence


def test_files_that_are_enough_for_a_worker_and_few_stations() -> None:
    [(level, sentence)] = told(
        machine.check_files, machine=msgspec.structs.replace(MACHINE, files=(1_024, 4_096))
    )
    assert level is Level.OK
    assert "3,996 stations" in sentence


def test_routers_that_cannot_be_loaded_or_handle_nothing() -> None:
    assert worst(machine.check_vendors, vendors=Vendors(error="no module 'x'")).level is Level.FAIL
    found = worst(machine.check_vendors, vendors=Vendors({"acme": 1, "new": 0}))
    assert "'new' has no handlers" in found.sentence
    assert told(machine.check_vendors, vendors=None) == []


def test_this_machine_is_seen_as_it_is() -> None:
    found = see_machine()
    assert found.python == sys.version_info[:3]
    assert found.libraries["aiormq"] == importlib.metadata.version("aiormq")
    assert found.files is None or found.files[0] <= found.files[1]
    assert (found.clock_synchronised is None) or sys.platform == "linux"
