"""The units of systemd agree with the code."""

import shlex
from pathlib import Path

import pytest

from tests.deployments import longest_stop, variables

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
EACH = pytest.mark.parametrize("name", ["dtbridge@.service", "dtbridge-gateway.service"])


class Unit:
    """The settings of a unit. One that stands several times is the lines of it together."""

    def __init__(self, name: str) -> None:
        settings: dict[str, str] = {}
        for line in (UNITS / name).read_text().splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                settings[key] = f"{settings[key]}\n{value}" if key in settings else value
        self.settings = settings
        program, *self.arguments = shlex.split(settings["ExecStart"])
        assert Path(program).name == "dtbridge"
        assigned = (each.partition("=") for each in shlex.split(settings["Environment"]))
        self.environment = {name: value for name, _, value in assigned}


def test_these_are_all() -> None:
    assert {path.name for path in UNITS.iterdir()} == {
        "dtbridge@.service",
        "dtbridge-gateway.service",
    }


@EACH
def test_every_variable_is_one_of_the_command(name: str) -> None:
    unit = Unit(name)
    [command] = unit.arguments
    ours = {each for each in unit.environment if each.startswith("DTBRIDGE_")}
    assert ours <= variables(command)


@EACH
def test_what_it_needs_to_end_it_is_given(name: str) -> None:
    """And SIGTERM goes to the main process alone: a second one would end a worker at once."""
    unit = Unit(name)
    assert int(unit.settings["TimeoutStopSec"]) > 1.2 * longest_stop(unit.arguments[0], {})
    assert unit.settings["KillMode"] == "mixed"


@EACH
def test_the_brokers_url_is_a_credential(name: str) -> None:
    unit = Unit(name)
    credential, _, file = unit.settings["LoadCredential"].partition(":")
    assert unit.environment["DTBRIDGE_AMQP_URL_FILE"] == f"%d/{credential}"
    assert file.startswith("/etc/dtbridge/")


@EACH
def test_a_mistake_is_not_tried_again_and_all_else_is(name: str) -> None:
    unit = Unit(name)
    assert unit.settings["Restart"] == "on-failure"
    assert unit.settings["RestartPreventExitStatus"] == "2"
    assert unit.settings["StartLimitIntervalSec"] == "0"
