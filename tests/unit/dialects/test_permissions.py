"""What users of each role may do, and the documents that say so."""

import re
from pathlib import Path

import pytest

from bridge.dialects.names import Names
from bridge.dialects.permissions import TAGS, Role, permission_definitions, permissions

ROOT = Path(__file__).parents[3]

OTHERS = [
    "orders",
    "amq.topic",
    "amq.direct",
    "datatransfer2",
    "datatransfer2.acme",
    "datatransferx.dead",
    "xdatatransfer",
    "datatransfer.replies.gateway-1",
]
"""Names of others: nobody may do anything with them."""

EVERY = [
    "datatransfer", "datatransfer.unrouted", "datatransfer.stations", "datatransfer.events",
    "datatransfer.dead", "datatransfer.retry.100", "datatransfer.com.acme",
    "datatransfer.unknown-vendor", "datatransfer:beside", "amq.gen-abc", "amq.default",
    "datatransfer.com.acme:4.0", "datatransfer-paused", "datatransfer-control",
    "datatransfer-control.abc",
]  # fmt: skip

VENDORS = {"datatransfer.com.acme", "datatransfer.com.acme:4.0", "datatransfer.unknown-vendor"}
RETRY = {"datatransfer.retry.100"}
OURS = {name for name in EVERY if name.startswith("datatransfer")}
DECLARED = OURS - {"datatransfer:beside"}
PRIVATE = {"amq.gen-abc"}
DEFAULT = {"amq.default"}
REQUESTS, UNROUTED, STATIONS = (
    {"datatransfer"},
    {"datatransfer.unrouted"},
    {"datatransfer.stations"},
)
EVENTS, DEAD = {"datatransfer.events"}, {"datatransfer.dead"}
PAUSED, CONTROL = {"datatransfer-paused"}, {"datatransfer-control"}
HINTS = {"datatransfer-control.abc"}

ALLOWED = {
    Role.WORKER: (
        HINTS,
        DEFAULT | REQUESTS | UNROUTED | EVENTS | DEAD | RETRY | PAUSED | HINTS,
        VENDORS | RETRY | CONTROL | HINTS,
    ),
    Role.WORKER_DECLARING: (DECLARED, DEFAULT | DECLARED, DECLARED),
    Role.GATEWAY: (PRIVATE, PRIVATE | DEFAULT | REQUESTS | UNROUTED, PRIVATE | STATIONS),
    Role.GATEWAY_DECLARING: (
        PRIVATE | REQUESTS | UNROUTED | STATIONS,
        PRIVATE | DEFAULT | REQUESTS | UNROUTED,
        PRIVATE | REQUESTS | STATIONS,
    ),
    Role.CLIENT: (PRIVATE, REQUESTS | STATIONS, PRIVATE),
    Role.OPERATOR: (PRIVATE | OURS, PRIVATE | DEFAULT | OURS, PRIVATE | OURS),
    Role.PAUSER: (
        set(),
        PAUSED | CONTROL,
        VENDORS | RETRY | EVENTS | DEAD | UNROUTED | STATIONS | PAUSED,
    ),
    Role.LISTENER: (PRIVATE, PRIVATE, PRIVATE | EVENTS),
    Role.DEAD_READER: (set(), set(), DEAD),
    Role.DEAD_REPLAYER: (set(), DEFAULT | REQUESTS, DEAD),
    Role.MONITOR: (set(), set(), set()),
}


@pytest.mark.parametrize("role", Role)
def test_a_role_may_do_this_and_nothing_else(role: Role) -> None:
    for pattern, allowed in zip(permissions(role), ALLOWED[role], strict=True):
        found = {name for name in (*EVERY, *OTHERS) if re.search(pattern, name)}
        assert found == allowed, pattern


@pytest.mark.parametrize("role", Role)
def test_another_prefix_moves_all_of_it(role: Role) -> None:
    for usual, other in zip(permissions(role), permissions(role, Names("a.b-c:d")), strict=True):
        for name in EVERY:
            moved = name.replace("datatransfer", "a.b-c:d")
            assert bool(re.search(usual, name)) == bool(re.search(other, moved)), (usual, name)
            if name.startswith("datatransfer"):
                assert not re.search(other, name)
                assert not re.search(other, moved.replace("a.b", "axb"))


def test_the_contract_names_the_rights_of_each_role() -> None:
    page = (ROOT / "docs" / "contract.md").read_text()
    for role in Role:
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{role}` |")]
        cells = [cell.strip("`").replace(r"\|", "|") for cell in row.split(" | ")[2:5]]
        assert cells == list(permissions(role)), role
        assert re.findall(r"`(\w+)` \|$", row) == list(TAGS.get(role, ()))


def test_definitions_are_for_users_of_a_virtual_host() -> None:
    [made] = permission_definitions([("gw-1", Role.CLIENT)], "ocpp")
    assert made == {
        "user": "gw-1",
        "vhost": "ocpp",
        "configure": r"^amq\.gen-.*$",
        "write": r"^datatransfer(\.stations)?$",
        "read": r"^amq\.gen-.*$",
    }


def test_the_gateways_page_names_the_rights_of_a_gateway() -> None:
    page = (ROOT / "docs" / "gateways.md").read_text()
    assert re.findall(r"^    '(.*)'", page, re.MULTILINE) == list(permissions(Role.GATEWAY))
