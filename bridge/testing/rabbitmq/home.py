"""Where private nodes live: a temporary folder, an epmd, and a guard so that nothing outlives us.

Every process runs in a group of its own, and its number is kept in the folder. The guard is a small
shell process that holds the read end of a pipe. When the pipe closes, it ends those processes and
removes the folder. That happens at `close()`, and also when Python itself is killed.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.ports import accepts, free_ports
from bridge.testing.rabbitmq.process import start, wait_until

LOOPBACK_DISTRIBUTION = "-kernel inet_dist_use_interface {127,0,0,1}"
"""Options of erl: Erlang's own traffic between nodes stays on loopback."""
EPMD_TIMEOUT = 10.0
"""Seconds epmd may take to accept connections."""

# $1 is the folder. Wait for the end of the pipe, then end every process group whose number is
# kept in the folder.
_GUARD = r"""
cat >/dev/null
cd / || exit 1
for file in "$1"/*.pid; do
    [ -f "$file" ] && kill -s KILL -- "-$(cat "$file")" 2>/dev/null
done
rm -rf "$1" 2>/dev/null || { sleep 1; rm -rf "$1"; }
"""

# $1 is the root folder of another Linux, $2 our folder, the rest a command. Run the command in that
# root folder, with our folder at the same place. Only the command sees the mounts
# (unshare --mount), and they go with the last process. Every step is an exec, so the process
# number stays the same.
_ENTER = r"""
set -e
root=$1 folder=$2
shift 2
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/tmp"
mkdir -p "$root$folder"
[ -e "$root/etc/hosts" ] || cp /etc/hosts "$root/etc/hosts"  # it may have no name for localhost
mount --bind "$folder" "$root$folder"
exec chroot "$root" "$@"
"""


class Home:
    """What the nodes of a broker or a cluster share: the folder, Erlang's cookie, and an epmd."""

    def __init__(self, root: Path | None = None) -> None:
        """`root`: the root folder of the Linux that the server belongs to; see `root_of`."""
        self.root = root
        self.folder = Path(tempfile.mkdtemp(prefix="dtbridge-rabbitmq-"))
        self._guard = start(
            ["/bin/sh", "-c", _GUARD, "guard", str(self.folder)], stdin=subprocess.PIPE
        )
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        [self._epmd_port] = free_ports(1)
        self._epmd: subprocess.Popen[bytes] | None = None
        self.environment = self._make_environment()

    def _make_environment(self) -> dict[str, str]:
        """Our environment, without what configures an installed RabbitMQ or Erlang."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET", "CONF_ENV_FILE"))
        }
        path = os.pathsep.join(
            [kept.get("PATH", os.defpath), "/usr/local/bin", "/opt/homebrew/bin", "/usr/sbin"]
        )
        return kept | {
            "PATH": path,
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8" if sys.platform != "darwin" else "en_US.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_CRASH_DUMP_SECONDS": "0",
            # Erlang sizes tables by the limit of open files, which containers often set to a
            # billion.
            "ERL_MAX_PORTS": "65536",
        }

    def command(self, program: Path | str, *arguments: str) -> list[str]:
        """The argument list that runs one of the server's programs in the root it belongs to."""
        if self.root is None:
            return [str(program), *arguments]
        if isinstance(program, Path):
            program = Path("/") / program.relative_to(self.root)
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        enter = ["/bin/sh", "-c", _ENTER, "enter", str(self.root), str(self.folder)]
        return ["unshare", *user, "--mount", *enter, str(program), *arguments]

    def start_epmd(self) -> None:
        """Start epmd as a child of ours; erl would start one that stays for ever.

        Raises:
            BrokerUnavailable: there is no epmd, or it does not start.

        """
        if self._epmd is not None and self._epmd.poll() is None:
            return
        epmd = "epmd" if self.root else shutil.which("epmd", path=self.environment["PATH"])
        if epmd is None:
            raise BrokerUnavailable(
                "Erlang's epmd was not found on PATH, so RabbitMQ cannot be started."
            )
        self._epmd = self.spawn(
            "epmd", self.command(epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1")
        )
        wait_until(
            lambda: accepts(self._epmd_port),
            self._epmd,
            EPMD_TIMEOUT,
            lambda: self.output_of("epmd"),
        )

    def spawn(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process that the guard ends, with its output in the folder; see `output_of`."""
        with (self.folder / f"{name}.out").open("ab") as output:
            process = start(
                command,
                environment=environment or self.environment,
                folder=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        (self.folder / f"{name}.pid").write_text(str(process.pid))
        return process

    def forget(self, name: str) -> None:
        """Tell the guard that a process has ended: its number may soon belong to another one."""
        (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def output_of(self, name: str) -> str:
        """What a spawned process has printed so far."""
        path = self.folder / f"{name}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """End every process and remove the folder."""
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self.forget("epmd")
        self._guard.communicate()
