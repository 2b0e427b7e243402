"""RabbitMQ's server on this machine: where it is, and how it is installed."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.process import run, run_to_the_end

Log = Callable[[str], None]
"""Takes one line for whoever waits."""

SERVER_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin",
)
SERVER_PATTERNS = (
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    "/usr/lib64/rabbitmq/lib/rabbitmq_server-*/sbin",
)
"""Where packages put the server: folders, and patterns of which the newest comes first."""

_IN_ROOT = "usr/lib/rabbitmq/bin"
"""Where Debian's package keeps the scripts, below the root folder."""

# The package starts a service and enables it for the next boot. We want its files only, and
# policy-rc.d is Debian's way to say so (invoke-rc.d(8)). Units that were there before stay as they
# were. A shell that a signal ends runs no EXIT trap, so the signals have traps that exit: they run
# when apt-get has ended. What a killed shell left behind is known by its mark.
APT_INSTALL = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
had() { [ -e "/lib/systemd/system/$1" ] || [ -e "/usr/lib/systemd/system/$1" ]; }
new=
for unit in rabbitmq-server.service epmd.socket epmd.service; do
    had "$unit" || new="$new $unit"
done
policy=${1:-/usr/sbin/policy-rc.d}
mark='# dtbridge: while rabbitmq-server is installed'
if [ ! -e "$policy" ] || grep -qxF "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
fi
apt-get update -q || true  # one source out of many may be down
apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends rabbitmq-server
if command -v systemctl >/dev/null; then
    for unit in $new; do systemctl disable -q "$unit" >/dev/null 2>&1 || true; done
fi
"""
"""A script for sh. Its argument is the path of policy-rc.d, if that is another."""


def find_server() -> Path | None:
    """The package's own `rabbitmq-server` script, or None if there is none.

    `DTBRIDGE_RABBITMQ_SERVER` overrides the search. It names the script, the folder that RabbitMQ
    was unpacked into, or the root folder of another Linux that has RabbitMQ and Erlang installed
    (see `root_of`).

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
    folders = [Path(folder) for folder in SERVER_FOLDERS]
    for pattern in SERVER_PATTERNS:
        folders += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    on_path = shutil.which("rabbitmq-server")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    return next((server for folder in folders if (server := _own_script(folder))), None)


def _own_script(place: Path) -> Path | None:
    """The script at `place` or in a folder below it, if it is the package's own.

    Debian puts a wrapper of the same name on PATH that switches to the user rabbitmq. Only the real
    script has `rabbitmq-env` beside it.
    """
    inside = (place / folder / "rabbitmq-server" for folder in ("", "sbin", _IN_ROOT))
    return next((script.absolute() for script in (place, *inside) if _is_own(script)), None)


def _is_own(script: Path) -> bool:
    beside = script.parent / "rabbitmq-env"
    return script.is_file() and beside.is_file() and os.access(script, os.X_OK)


def root_of(server: Path) -> Path | None:
    """The root folder of the Linux that a server's script belongs to, or None if that is ours.

    A tree as `debootstrap` makes it has the Erlang and the C library that its RabbitMQ was built
    with, so one machine can run servers of several versions.
    """
    folder = server.parent
    if not folder.as_posix().endswith("/" + _IN_ROOT):
        return None
    root = folder.parents[3]
    return root if root != Path("/") and (root / "usr/bin/erl").exists() else None


def has_plugin(server: Path, name: str) -> bool:
    """Whether a server comes with a plugin. Where its plugins cannot be found, it counts as so."""
    places = (
        *server.parent.parent.glob("plugins"),
        *server.parent.parent.glob("lib/rabbitmq_server-*/plugins"),
    )
    return not places or any(next(place.glob(f"{name}-*"), None) is not None for place in places)


def install_server(log: Log = print) -> Path:
    """Install the system's RabbitMQ package and return its script. No service is left running.

    Args:
        log: takes a line for whoever waits.

    Raises:
        BrokerUnavailable: this system has no package manager we know, we may not use it, or the
            installation failed.

    """
    if shutil.which("apt-get"):
        command = [*_as_root(), "sh", "-c", APT_INSTALL]
        log("Installing the package rabbitmq-server with apt-get (once) …")
        _run_installer(command, log)
    elif shutil.which("brew"):
        log("Installing the package rabbitmq with Homebrew (once) …")
        _run_installer(["brew", "install", "rabbitmq"], log)
    else:
        raise BrokerUnavailable(
            "RabbitMQ is not installed and there is neither apt-get nor Homebrew to install it "
            "with; install rabbitmq-server, or set DTBRIDGE_AMQP_URL to a running one."
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
        "RabbitMQ is not installed, and installing it needs root: "
        "run `sudo apt-get install rabbitmq-server`, or set DTBRIDGE_AMQP_URL to a running one."
    )


def _run_installer(command: Sequence[str], log: Log) -> None:
    done = run_to_the_end(
        command,
        lambda: log("Waiting for the package manager to end (Ctrl-C again: kill it) …"),
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        raise BrokerUnavailable(f"RabbitMQ could not be installed: {last.strip()}")


def ensure_server(log: Log = print) -> Path:
    """The server's script; the server is installed if there is none.

    Raises:
        BrokerUnavailable: it cannot be installed.

    """
    return find_server() or install_server(log)
