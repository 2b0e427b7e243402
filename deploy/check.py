"""Checks what is under deploy/, without a cluster or a container engine: python -m deploy.check.

Every overlay is rendered by ``kubectl kustomize``, and each object is held against its schema:
those of Kubernetes as ``kubernetes-validate`` has them, custom resources against the small ones in
``deploy/kubernetes/schemas``. The units are read by ``systemd-analyze``, and the Dockerfiles that
documents show by hadolint. ``make lint`` runs it; exit code 1 if anything is wrong.
"""

import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[1]
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
UNITS: Final = ROOT / "deploy" / "systemd"

VERSIONS: Final = ("1.31", "1.35")
"""Of Kubernetes. From 1.31 on a budget has ``unhealthyPodEvictionPolicy``, and a pod
``matchLabelKeys``, without a feature gate."""
EXPOSURE: Final = 20
"""What ``systemd-analyze security`` may count against a unit at most, of 100."""

Manifest = Mapping[str, Any]
"""An object, as Kubernetes takes it."""


def overlays() -> list[str]:
    """The names of the overlays."""
    return sorted(path.parent.name for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))


def rendered(overlay: str) -> tuple[Manifest, ...]:
    """The objects of an overlay. Raises CalledProcessError if it cannot be rendered."""
    return rendered_folder(f"overlays/{overlay}")


@functools.cache
def rendered_folder(folder: str) -> tuple[Manifest, ...]:
    """The objects of a folder of deploy/kubernetes. Raises CalledProcessError as well."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(KUBERNETES / folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    if done.stderr:  # what is deprecated
        raise subprocess.CalledProcessError(0, done.args, done.stdout, done.stderr)
    return tuple(YAML(typ="safe").load_all(done.stdout))


def kubectl() -> str:
    """The one that `make` has unpacked, where the system's is too old, or the system's."""
    own = ROOT / "build" / "kubectl" / "usr" / "bin" / "kubectl"
    return str(own) if own.exists() else "kubectl"


# ---- schemas ----


def faults(manifest: Manifest) -> Iterator[str]:
    """What is wrong with an object."""
    if _is_custom(manifest):
        schema = KUBERNETES / "schemas" / f"{manifest['kind'].lower()}.json"
        if not schema.exists():
            yield f"there is no {schema.relative_to(ROOT)}"
            return
        validator = jsonschema.Draft202012Validator(json.loads(schema.read_text()))
        for error in validator.iter_errors(manifest):
            yield f"{error.json_path}: {error.message}"
        return
    for version in VERSIONS:
        try:
            used = kubernetes_validate.validate(dict(manifest), version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"Kubernetes {version} has no such thing"
        else:
            if used != version:
                yield f"kubernetes-validate has no Kubernetes {version}"


def _is_custom(manifest: Manifest) -> bool:
    """Whether its group is none of Kubernetes' own: these have no dot, or end in k8s.io."""
    group = manifest["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def check_manifests() -> Iterator[str]:
    for folder in ["broker", *(f"overlays/{overlay}" for overlay in overlays())]:
        try:
            manifests = rendered_folder(folder)
        except subprocess.CalledProcessError as error:
            yield f"{folder}: {error.stderr.strip()}"
            continue
        for manifest in manifests:
            name = f"{manifest['kind']} {manifest['metadata']['name']}"
            yield from (f"{folder}, {name}: {fault}" for fault in faults(manifest))


# ---- units ----


def check_units(analyze: str) -> Iterator[str]:
    """`analyze`: systemd-analyze. A unit's program is not here, so another one stands for it."""
    with tempfile.TemporaryDirectory() as folder:
        for unit in sorted(UNITS.glob("*.service")):
            text, programs = re.subn(
                "(?m)^ExecStart=[^ ]+", "ExecStart=/bin/true", unit.read_text()
            )
            if programs != 1:
                yield f"{unit.name}: {programs} ExecStart"
            copy = Path(folder) / unit.name.replace("@", "@acme")
            copy.write_text(text)
            for arguments in (
                ["verify", "--man=no"],
                ["security", "--offline=true", f"--threshold={EXPOSURE}"],
            ):
                done = subprocess.run(
                    [analyze, *arguments, str(copy)],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    told = done.stderr or done.stdout
                    yield f"{unit.name}: systemd-analyze {arguments[0]}: {told}"


# ---- Dockerfiles in documents ----


def shown_dockerfiles() -> list[str]:
    """What documents show as Dockerfiles."""
    fence = re.compile(r"^```dockerfile\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        text for path in sorted(ROOT.glob("docs/*.md")) for text in fence.findall(path.read_text())
    ]


def check_dockerfiles() -> Iterator[str]:
    hadolint = Path(sys.executable).with_name("hadolint")
    for text in shown_dockerfiles():
        done = subprocess.run(
            [hadolint, "-"], input=text, capture_output=True, text=True, check=False
        )
        if done.returncode:
            yield f"a Dockerfile in docs: {done.stdout or done.stderr}"


def main() -> int:
    """Print what is wrong, a line each. Returns the exit code."""
    found = [*check_manifests(), *check_dockerfiles()]
    if analyze := shutil.which("systemd-analyze"):
        found += check_units(analyze)
    else:
        print("systemd-analyze is left out: it needs systemd")  # noqa: T201
    for line in found:
        print(line, file=sys.stderr)  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
