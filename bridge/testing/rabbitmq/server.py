"""RabbitMQ on this machine: found, or installed."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Log = Callable[[str], None]
"""Takes one line for the person who waits."""


class BrokerUnavailable(RuntimeError):
    """There is no RabbitMQ to be had; the text says why in one sentence."""


_SERVER_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin",
)
_SERVER_PATTERNS = (
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    "/usr/lib64/rabbitmq/lib/rabbitmq_server-*/sbin",
)

_IN_ROOT = "usr/lib/rabbitmq/bin"
"""Where Debian's package keeps the scripts, below the root folder."""

# The package starts a service and enables it for the next boot. We want its files only: policy-rc.d is Debian's way to
# say so (invoke-rc.d(8)); units that were there before stay as they were.
_APT_INSTALL = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
had() { [ -e "/lib/systemd/system/$1" ] || [ -e "/usr/lib/systemd/system/$1" ]; }
new=
for unit in rabbitmq-server.service epmd.socket epmd.service; do had "$unit" || new="$new $unit"; done
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -q || true  # one source out of many may be down
apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends rabbitmq-server
if command -v systemctl >/dev/null; then
    for unit in $new; do systemctl disable -q "$unit" >/dev/null 2>&1 || true; done
fi
"""


def find_server() -> Path | None:
    """The package's own `rabbitmq-server` script, or None when there is none.

    `DTBRIDGE_RABBITMQ_SERVER` overrides the search: the script; the folder RabbitMQ was unpacked into; or the root folder of
    another Linux that has RabbitMQ and Erlang installed, see `root_of`.

    Raises:
        BrokerUnavailable: `DTBRIDGE_RABBITMQ_SERVER` names no RabbitMQ.

    """
    given = os.environ.get("DTBRIDGE_RABBITMQ_SERVER")
    if given:
        server = _own_script(Path(given))
        if server is None:
            raise BrokerUnavailable(
                f"DTBRIDGE_RABBITMQ_SERVER names no rabbitmq-server script: {given}"
            )
        return server
    folders = [Path(folder) for folder in _SERVER_FOLDERS]
    for pattern in _SERVER_PATTERNS:
        folders += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    on_path = shutil.which("rabbitmq-server")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    return next((server for folder in folders if (server := _own_script(folder))), None)


def _own_script(place: Path) -> Path | None:
    """The script in, or at, `place`, if it is the package's own.

    Debian puts a wrapper of the same name on PATH that switches to the user rabbitmq; only the real one stands beside
    `rabbitmq-env`.
    """
    for script in (
        place,
        *(place / folder / "rabbitmq-server" for folder in ("", "sbin", _IN_ROOT)),
    ):
        if (
            script.is_file()
            and (script.parent / "rabbitmq-env").is_file()
            and os.access(script, os.X_OK)
        ):
            return script.absolute()
    return None


def root_of(server: Path) -> Path | None:
    """The root folder of the Linux that a server's script belongs to; None: it is ours.

    Such a tree, as `debootstrap` makes one, brings Erlang and the C library that its RabbitMQ was built with, so one
    machine can run servers of several versions.
    """
    folder = server.parent
    if not folder.as_posix().endswith("/" + _IN_ROOT):
        return None
    root = folder.parents[3]
    return root if root != Path("/") and (root / "usr/bin/erl").exists() else None


def install_server(log: Log = print) -> Path:
    """Install the system's RabbitMQ package and return its script. Nothing is left running by the installation.

    Raises:
        BrokerUnavailable: this system has no package manager we know, or no right to use it.

    """
    if shutil.which("apt-get"):
        command = [*_as_root(), "sh", "-c", _APT_INSTALL]
        log("Installing the package rabbitmq-server with apt-get (once) …")
        _run_installer(command)
    elif shutil.which("brew"):
        log("Installing the package rabbitmq with Homebrew (once) …")
        _run_installer(["brew", "install", "rabbitmq"])
    else:
        raise BrokerUnavailable(
            "RabbitMQ is not installed and there is neither apt-get nor Homebrew to install it with; "
            "install rabbitmq-server, or set DTBRIDGE_AMQP_URL to a running one."
        )
    server = find_server()
    if server is None:
        raise BrokerUnavailable(
            "The RabbitMQ package was installed, but its rabbitmq-server script was not found."
        )
    return server


def _as_root() -> list[str]:
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and run([sudo, "-n", "true"]).returncode == 0:
        return [sudo, "-n"]
    raise BrokerUnavailable(
        "RabbitMQ is not installed, and installing it needs root: run `sudo apt-get install rabbitmq-server`, "
        "or set DTBRIDGE_AMQP_URL to a running one."
    )


def _run_installer(command: Sequence[str]) -> None:
    done = run(command)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        raise BrokerUnavailable(f"RabbitMQ could not be installed: {last.strip()}")


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to the end and catch what is printed; the caller looks at the exit code."""
    return subprocess.run(  # noqa: S603 - no part of a command comes from outside
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def ensure_server(log: Log = print) -> Path:
    """The installed server's script; it is installed if need be.

    Raises:
        BrokerUnavailable: it cannot be installed.

    """
    return find_server() or install_server(log)
