"""The table of actions equals that of another implementation, made from the schemas of OCPP."""

import pytest
from ocpp.v16.enums import Action as Action16
from ocpp.v21.enums import Action as Action21
from ocpp.v201.enums import Action as Action201

from bridge.gateway.websocket.actions import KNOWN_ACTIONS
from bridge.ocpp import OcppVersion

V16, V20, V201, V21 = OcppVersion


@pytest.mark.parametrize("version", OcppVersion)
def test_every_version_has_its_actions(version: OcppVersion) -> None:
    assert {"DataTransfer", "BootNotification", "Heartbeat", "StatusNotification"} < KNOWN_ACTIONS[
        version
    ]


def test_the_actions_are_those_of_the_schemas() -> None:
    assert KNOWN_ACTIONS[V16] == {action.value for action in Action16}
    assert KNOWN_ACTIONS[V201] == {action.value for action in Action201}
    # For the one message that is only sent as SEND, the package has a schema but no action.
    assert KNOWN_ACTIONS[V21] == {action.value for action in Action21} | {
        "NotifyPeriodicEventStream"
    }
