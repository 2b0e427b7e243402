"""What the manifests, units and compose.yaml start, as tests look at it."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import typer

from bridge.cli.gateway import DEFAULTS as GATEWAY
from bridge.cli.main import application
from bridge.cli.process import FAREWELL, LAST_RESORT
from bridge.cli.run import DEFAULTS as WORKER
from deploy.check import Manifest, overlays, rendered

SECRET = {"DTBRIDGE_AMQP_URL", "DTBRIDGE_IDEMPOTENCY", "DTBRIDGE_STATION_PASSWORD"}
"""What may stand in a file, which a variable of that name and _FILE names."""


class Container(msgspec.Struct):
    """The one container of a Deployment."""

    overlay: str
    deployment: Manifest

    @property
    def name(self) -> str:
        name: str = self.deployment["metadata"]["name"]
        return name

    @property
    def pod(self) -> Mapping[str, Any]:
        pod: Mapping[str, Any] = self.deployment["spec"]["template"]["spec"]
        return pod

    @property
    def labels(self) -> dict[str, str]:
        """Of its pods."""
        labels: dict[str, str] = self.deployment["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def spec(self) -> Mapping[str, Any]:
        [spec] = self.pod["containers"]
        return spec  # type: ignore[no-any-return]  # YAML knows no types

    @property
    def command(self) -> str:
        """What `dtbridge` is told to do."""
        [command] = self.spec["args"]
        return str(command)

    @property
    def environment(self) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.spec["env"]}

    @property
    def secrets(self) -> dict[str, str]:
        """The name of the Secret for each folder where one is mounted."""
        volumes = {each["name"]: each["secret"]["secretName"] for each in self.pod["volumes"]}
        return {each["mountPath"]: volumes[each["name"]] for each in self.spec["volumeMounts"]}

    @property
    def secret_files(self) -> set[tuple[str, str]]:
        """The Secret, and the key in it, of each file that a variable names."""
        found = set()
        for value in self.environment.values():
            folder, _, file = value.rpartition("/")
            if folder in self.secrets:
                found.add((self.secrets[folder], file))
        return found


def of_kind(overlay: str, kind: str) -> list[Manifest]:
    """The objects of an overlay that are of one kind."""
    return [each for each in rendered(overlay) if each["kind"] == kind]


def containers() -> Iterator[Container]:
    """The container of every Deployment of every overlay."""
    for overlay in overlays():
        for deployment in of_kind(overlay, "Deployment"):
            yield Container(overlay, deployment)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes what has these labels. It is one with matchLabels only."""
    assert selector.keys() <= {"matchLabels"}
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def variables(command: str) -> set[str]:
    """The environment variables that a command of `dtbridge` reads."""
    group: Any = typer.main.get_command(application())
    found: set[str] = set()
    for parameter in group.commands[command].params:
        match parameter.envvar:
            case str(name):
                found.add(name)
            case [*names]:
                found.update(names)
    return found | {f"{name}_FILE" for name in found & SECRET}


def longest_stop(command: str, environment: Mapping[str, str]) -> float:
    """Seconds after SIGTERM in which a command ends, whatever holds it up."""
    defaults = {"run": WORKER.drain_timeout, "gateway": GATEWAY.drain_timeout}
    farewells = {"run": 1, "gateway": 2}  # a gateway has one for stations, too
    drain = float(environment.get("DTBRIDGE_DRAIN_TIMEOUT", defaults[command]))
    return drain + farewells[command] * FAREWELL + LAST_RESORT
