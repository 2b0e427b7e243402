"""The manifests agree with the code, and with each other. Their schemas are for `make lint`."""

import copy
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bridge.cli.addresses import parse_listen
from bridge.cli.routers import load_routers
from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from deploy import make_secrets
from deploy.check import (
    KUBERNETES,
    Manifest,
    faults,
    kubectl,
    overlays,
    rendered,
    rendered_folder,
    shown_dockerfiles,
)
from tests.deployments import Container, containers, longest_stop, of_kind, selects, variables

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "deployment.md").read_text()
BY_HAND = {("stations", "passwords"), ("gateway-tls", "tls.crt"), ("gateway-tls", "tls.key")}
"""Secrets that deploy/make_secrets.py does not make."""

ALL = list(containers())
EACH = pytest.mark.parametrize("container", ALL, ids=lambda each: f"{each.overlay}-{each.name}")
OVERLAY = pytest.mark.parametrize("overlay", overlays())


# ---- the check itself ----


def test_there_are_the_overlays_that_the_document_describes() -> None:
    assert overlays() == ["autoscaled", "production", "small"]
    for name in overlays():
        assert f"deploy/kubernetes/overlays/{name}" in DOCUMENT


def find(overlay: str, kind: str) -> dict[str, Any]:
    """A copy of the first object of a kind, to be broken."""
    return copy.deepcopy(dict(of_kind(overlay, kind)[0]))


def break_deployment(manifest: dict[str, Any]) -> None:
    manifest["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}


def break_trigger(manifest: dict[str, Any]) -> None:
    manifest["spec"]["triggers"][0]["metadata"]["protocol"] = "amqp"
    manifest["spec"]["triggers"][0]["metadata"]["useRegex"] = "true"


def break_monitor(manifest: dict[str, Any]) -> None:
    manifest["spec"]["podMetricsEndpoints"][0]["interval"] = 15


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("Deployment", break_deployment),
        ("ScaledObject", break_trigger),
        ("PodMonitor", break_monitor),
    ],
)
def test_the_check_finds_what_is_wrong(kind: str, broken: Any) -> None:
    manifest = find("autoscaled", kind)
    assert list(faults(manifest)) == []
    broken(manifest)
    assert list(faults(manifest))


def test_the_check_has_a_schema_for_every_custom_resource_and_says_if_not() -> None:
    manifest = {"apiVersion": "example.com/v1", "kind": "Other", "metadata": {"name": "x"}}
    assert list(faults(manifest)) == ["there is no deploy/kubernetes/schemas/other.json"]


# ---- commands, variables, ports, probes ----


@EACH
def test_every_variable_that_is_set_is_one_of_the_command(container: Container) -> None:
    ours = {name for name in container.environment if name.startswith("DTBRIDGE_")}
    assert ours <= variables(container.command)


@EACH
def test_every_router_that_is_named_is_in_the_image(container: Container) -> None:
    if container.command == "run":
        targets = container.environment["DTBRIDGE_TARGETS"].split()
        assert load_routers(targets)
        assert all(target.startswith("examples.") for target in targets)


@EACH
def test_probes_ask_what_they_are_for_where_it_listens(container: Container) -> None:
    """A broker that is away is no reason to restart anything."""
    ports = {each["name"]: each["containerPort"] for each in container.spec["ports"]}
    _, http = parse_listen(container.environment["DTBRIDGE_HTTP"])
    assert ports["http"] == http
    pages = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, page in pages.items():
        assert container.spec[probe]["httpGet"] == {"path": page, "port": "http"}
    if container.command == "gateway":
        assert ports["ocpp"] == parse_listen(container.environment["DTBRIDGE_LISTEN"])[1]


@EACH
def test_the_grace_period_is_longer_than_what_it_takes_to_end(container: Container) -> None:
    assert container.pod["terminationGracePeriodSeconds"] > 1.2 * longest_stop(
        container.command, container.environment
    )
    assert "lifecycle" not in container.spec  # no preStop: base/ says why


@EACH
def test_a_rollout_never_has_fewer_than_before(container: Container) -> None:
    strategy = container.deployment["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


# ---- rights ----


@EACH
def test_pods_have_the_restricted_profile_and_cannot_write(container: Container) -> None:
    """Pod Security Standards, restricted; and the user of the image."""
    pod, own = container.pod["securityContext"], container.spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True
    [user] = re.findall(
        r"^USER (\d+):(\d+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE
    )
    assert (str(pod["runAsUser"]), str(pod["runAsGroup"])) == user


@EACH
def test_pods_have_no_token_and_no_variables_of_services(container: Container) -> None:
    """A Service named dtbridge would set DTBRIDGE_PORT and the like."""
    assert container.pod["automountServiceAccountToken"] is False
    assert container.pod["enableServiceLinks"] is False
    [account] = of_kind(container.overlay, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert container.pod["serviceAccountName"] == account["metadata"]["name"]


@OVERLAY
def test_the_namespace_holds_pods_to_the_profile(overlay: str) -> None:
    [namespace] = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for manifest in rendered(overlay):
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == namespace["metadata"]["name"]


# ---- secrets ----


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Folder and file of every secret that is made."""
    folder = tmp_path_factory.mktemp("secrets")
    make_secrets.make(folder, "rabbitmq.rabbitmq:5672")
    return {(path.parent.name, path.name) for path in folder.rglob("*") if path.is_file()}


@EACH
def test_every_secret_that_is_read_is_made_and_no_secret_is_a_variable(
    container: Container, made: set[tuple[str, str]]
) -> None:
    assert container.secret_files
    assert container.secret_files <= made | BY_HAND
    assert set(container.secrets.values()) == {secret for secret, _ in container.secret_files}
    assert all("valueFrom" not in each for each in container.spec["env"])
    for secret in container.secrets.values():
        assert re.search(rf"create secret \w+ {secret} ", DOCUMENT), secret


def test_keda_reads_a_secret_that_is_made(made: set[tuple[str, str]]) -> None:
    [authentication] = of_kind("autoscaled", "TriggerAuthentication")
    [reference] = authentication["spec"]["secretTargetRef"]
    assert reference["parameter"] == "host"
    assert (reference["name"], reference["key"]) in made
    assert f"create secret generic {reference['name']} " in DOCUMENT


def shown(language: str, beginning: str) -> str:
    """The first block of the document that begins so."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return next(str(block) for block in blocks if block.startswith(beginning))


def test_the_commands_that_make_secrets_do_so(tmp_path: Path) -> None:
    """As the document has them, but for a cluster that takes them."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "passwords").write_text("CP001:…\n")
    lines = shown("sh", "python deploy/make_secrets.py").splitlines()
    lines += [line for line in shown("sh", "dtbridge password").splitlines() if " generic " in line]
    objects = {}
    for line in lines:
        name, *arguments = shlex.split(line)
        if name == "python":
            run([sys.executable, *arguments], tmp_path)
        else:
            made = run([kubectl(), *arguments, "--dry-run=client", "--output=json"], tmp_path)
            manifest = json.loads(made)
            objects[manifest["kind"], manifest["metadata"]["name"]] = manifest.get("data", {})
    assert ("Namespace", "dtbridge") in objects
    secrets = {
        (name, key) for (kind, name), data in objects.items() if kind == "Secret" for key in data
    }
    needed = {file for container in ALL for file in container.secret_files}
    assert {each for each in needed if each[0] != "gateway-tls"} <= secrets


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_overlay_that_is_shown_takes_ours_with_another_image(tmp_path: Path) -> None:
    (tmp_path / "datatransfer-bridge").symlink_to(ROOT)
    text = shown("yaml", "apiVersion: kustomize").replace("sha256:…", f"sha256:{'0' * 64}")
    (tmp_path / "kustomization.yaml").write_text(text)
    rendered = list(YAML(typ="safe").load_all(run([kubectl(), "kustomize", "."], tmp_path)))
    images = {
        each["spec"]["template"]["spec"]["containers"][0]["image"]
        for each in rendered
        if each["kind"] == "Deployment"
    }
    assert images == {f"registry.example/my-bridge@sha256:{'0' * 64}"}


# ---- who selects whom ----


def selected(overlay: str, selector: dict[str, Any]) -> set[str]:
    """The Deployments whose pods a selector takes."""
    return {each.name for each in ALL if each.overlay == overlay and selects(selector, each.labels)}


@EACH
def test_a_deployment_selects_its_own_pods_alone(container: Container) -> None:
    assert selected(container.overlay, container.deployment["spec"]["selector"]) == {container.name}
    for constraint in container.pod["topologySpreadConstraints"]:
        assert container.name in selected(container.overlay, constraint["labelSelector"])


@OVERLAY
def test_each_deployment_has_a_budget_that_lets_a_node_be_drained(overlay: str) -> None:
    budgets = of_kind(overlay, "PodDisruptionBudget")
    names = [selected(overlay, budget["spec"]["selector"]) for budget in budgets]
    assert sorted(map(sorted, names)) == sorted(
        [each.name] for each in ALL if each.overlay == overlay
    )
    for budget in budgets:
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@OVERLAY
def test_the_service_leads_to_the_gateway(overlay: str) -> None:
    [service] = of_kind(overlay, "Service")
    assert selected(overlay, {"matchLabels": service["spec"]["selector"]}) == {"gateway"}
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["ocpp"]


# ---- the network ----


def test_the_broker_is_where_pods_may_go_and_accounts_lead() -> None:
    [cluster] = [each for each in rendered_folder("broker") if each["kind"] == "RabbitmqCluster"]
    namespace = cluster["metadata"]["namespace"]
    host = f"{cluster['metadata']['name']}.{namespace}"
    assert f" secrets {host}:5672\n" in DOCUMENT
    for overlay in overlays():
        policies = {each["metadata"]["name"]: each for each in of_kind(overlay, "NetworkPolicy")}
        [rule] = policies["to-broker"]["spec"]["egress"]
        [peer] = rule["to"]
        labels = {"kubernetes.io/metadata.name": namespace}
        assert peer["namespaceSelector"] == {"matchLabels": labels}


def allowed(overlay: str, container: Container, direction: str) -> Iterator[int]:
    """The ports that policies open for a container."""
    for policy in of_kind(overlay, "NetworkPolicy"):
        if selects(policy["spec"]["podSelector"], container.labels):
            for rule in policy["spec"].get(direction, []):
                yield from (port["port"] for port in rule["ports"])


@EACH
def test_pods_may_do_nothing_on_the_network_but_what_they_need(container: Container) -> None:
    denying = [
        policy
        for policy in of_kind(container.overlay, "NetworkPolicy")
        if policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        and policy["spec"].keys() == {"podSelector", "policyTypes"}
    ]
    assert any(selects(policy["spec"]["podSelector"], container.labels) for policy in denying)
    into, out = set[int](), {53, 5671, 5672}
    if container.command == "gateway":
        into.add(9000)
    if of_kind(container.overlay, "PodMonitor"):
        into.add(9100)
    if "DTBRIDGE_IDEMPOTENCY_FILE" in container.environment:
        out.add(6379)
    assert set(allowed(container.overlay, container, "ingress")) == into
    assert set(allowed(container.overlay, container, "egress")) == out


# ---- metrics ----


def test_metrics_are_read_from_every_pod_where_they_are() -> None:
    for monitor in of_kind("production", "PodMonitor"):
        assert selected("production", monitor["spec"]["selector"]) == {
            each.name for each in ALL if each.overlay == "production"
        }
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")


def test_jobs_have_the_names_that_rules_and_dashboard_know() -> None:
    config = YAML(typ="safe").load(ROOT / "deploy" / "prometheus" / "prometheus.yml")
    jobs = {each["job_name"] for each in config["scrape_configs"]}
    [monitor] = of_kind("production", "PodMonitor")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    [naming] = [each for each in endpoint["relabelings"] if each["targetLabel"] == "job"]
    assert naming["sourceLabels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_component"]
    components = {each.labels["app.kubernetes.io/component"] for each in ALL}
    assert {naming["replacement"].replace("$1", each) for each in components} <= jobs


# ---- scaling ----


def scaled() -> Iterator[tuple[Container, Manifest]]:
    objects = {
        each["spec"]["scaleTargetRef"]["name"]: each
        for each in of_kind("autoscaled", "ScaledObject")
    }
    for container in ALL:
        if container.overlay == "autoscaled" and container.command == "run":
            yield container, objects.pop(container.name)
    assert not objects


def test_nobody_else_decides_how_many_workers_there_are() -> None:
    for container, _ in scaled():
        assert "replicas" not in container.deployment["spec"]
    for overlay in overlays():
        assert not of_kind(overlay, "HorizontalPodAutoscaler")


def test_workers_are_scaled_by_the_queues_that_they_consume_and_no_others() -> None:
    """A pattern that is looser counts dead letters, which never go away."""
    everybody = {vendor for container, _ in scaled() for vendor in vendors(container)}
    queues = worker_topology(
        Native(Names()), sorted(everybody | {"com.voltage", "comXacme"})
    ).queues
    for container, scaler in scaled():
        own = {Names().vendor_queue(vendor) for vendor in vendors(container)}
        for trigger in scaler["spec"]["triggers"]:
            settings = trigger["metadata"]
            pattern = settings["queueName"]
            if settings.get("useRegex") != "true":
                pattern = f"^{re.escape(pattern)}$"
            assert {queue.name for queue in queues if re.search(pattern, queue.name)} == own
            if settings.get("useRegex") == "true":  # of partitions, too
                assert all(re.search(pattern, f"{name}:4.0") for name in own)


def vendors(container: Container) -> set[str]:
    targets = container.environment["DTBRIDGE_TARGETS"].split()
    return {router.vendor_id for router in load_routers(targets)}


def test_workers_are_scaled_by_length_and_by_time_and_never_to_nothing() -> None:
    for _, scaler in scaled():
        modes = {each["metadata"]["mode"]: each for each in scaler["spec"]["triggers"]}
        assert modes.keys() == {"QueueLength", "ExpectedQueueConsumptionTime"}
        assert modes["ExpectedQueueConsumptionTime"]["metricType"] == "Value"
        assert all(each["metadata"]["protocol"] == "http" for each in modes.values())
        assert scaler["spec"]["minReplicaCount"] > 0


# ---- handlers of one's own ----


def test_a_dockerfile_of_two_lines_is_shown() -> None:
    """tests/acceptance/test_image.py builds it."""
    first, *_ = shown_dockerfiles()
    assert [line.split()[0] for line in first.splitlines()] == ["FROM", "COPY"]


def test_every_file_of_an_overlay_is_used() -> None:
    for file in KUBERNETES.rglob("kustomization.yaml"):
        listed = YAML(typ="safe").load(file)
        used = {*listed["resources"], *(each.get("path") for each in listed.get("patches", ()))}
        assert {path.name for path in file.parent.iterdir()} - {file.name} <= used, file
