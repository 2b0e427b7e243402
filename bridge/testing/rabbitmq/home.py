"""Where a private node lives: its folder, its ports, its certificates."""

import contextlib
import os
import random
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bridge.testing.rabbitmq.server import BrokerUnavailable, run

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_START_FRAME = struct.Struct(">BHIHH")
"""The beginning of every server's first frame: type 1, channel 0, size, class 10, method 10 (Connection.Start)."""

# $1 is the folder. Wait for the end of the pipe, then end every process group whose number lies in the folder.
_GUARD = r"""
cat >/dev/null
cd / || exit 1
for file in "$1"/*.pid; do
    [ -f "$file" ] && kill -s KILL -- "-$(cat "$file")" 2>/dev/null
done
rm -rf "$1" 2>/dev/null || { sleep 1; rm -rf "$1"; }
"""

# $1 is the root folder of another Linux, $2 our folder, the rest a command: run it in there, with our folder in its place.
# The mounts are seen in there alone (unshare --mount) and go with the last process. Every step is an exec: the process
# number stays.
_ENTER = r"""
set -e
root=$1 folder=$2
shift 2
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/tmp"
mkdir -p "$root$folder"
[ -e "$root/etc/hosts" ] || cp /etc/hosts "$root/etc/hosts"  # without, nobody in there knows localhost
mount --bind "$folder" "$root$folder"
exec chroot "$root" "$@"
"""


class Home:
    """What the nodes of one broker or cluster share: the folder, Erlang's cookie, and an epmd of their own."""

    def __init__(self, root: Path | None = None) -> None:
        """`root`: see `root_of`."""
        self.root = root
        self.folder = Path(tempfile.mkdtemp(prefix="dtbridge-rabbitmq-"))
        self._guard = subprocess.Popen(  # noqa: S603 - a fixed script
            ["/bin/sh", "-c", _GUARD, "guard", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        [self._epmd_port] = free_ports(1)
        self._epmd: subprocess.Popen[bytes] | None = None
        self.environment = self._make_environment()

    def _make_environment(self) -> dict[str, str]:
        """Ours, without what an installed RabbitMQ or Erlang may have been told there."""
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
            # Erlang sizes tables by the limit of open files, which containers often set to a billion.
            "ERL_MAX_PORTS": "65536",
        }

    def command(self, program: Path | str, *arguments: str) -> list[str]:
        """How to run a program of the server's: in the root folder it belongs to."""
        if self.root is None:
            return [str(program), *arguments]
        if isinstance(program, Path):
            program = Path("/") / program.relative_to(self.root)
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        enter = ["/bin/sh", "-c", _ENTER, "enter", str(self.root), str(self.folder)]
        return ["unshare", *user, "--mount", *enter, str(program), *arguments]

    def start_epmd(self) -> None:
        """In the foreground and so as our child; left to itself, erl starts one that stays for ever."""
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
            lambda: accepts(self._epmd_port), self._epmd, 10.0, lambda: self.output_of("epmd")
        )

    def spawn(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own, its output in the folder; the guard knows it from now on."""
        with (self.folder / f"{name}.out").open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - the server's own commands
                command,
                env=dict(environment or self.environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self.folder / f"{name}.pid").write_text(str(process.pid))
        return process

    def forget(self, name: str) -> None:
        """The process has ended: its number may soon belong to another."""
        (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def output_of(self, name: str) -> str:
        path = self.folder / f"{name}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """End everything of ours and remove the folder."""
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self.forget("epmd")
        self._guard.communicate()


def free_ports(count: int) -> list[int]:
    """TCP ports on loopback that nobody uses now.

    They lie below the range from which systems take ports for outgoing connections. A port inside it can be lost
    while the node is stopped, even to a client of ours: one that keeps trying a closed port of that range can end up
    connected to itself (RFC 9293 simultaneous open), and then the node cannot have its port back.
    """
    chooser = random.SystemRandom()
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            probe = held.enter_context(socket.socket())
            port = chooser.randrange(15_000, 32_000)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
        return ports


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


def speaks_amqp(host: str, port: int) -> bool:
    """Whether an AMQP 0-9-1 server answers the protocol header with Connection.Start."""
    try:
        with socket.create_connection((host, port), timeout=1.0) as connection:
            connection.settimeout(5.0)
            connection.sendall(_PROTOCOL_HEADER)
            answer = connection.makefile("rb").read(_START_FRAME.size)
    except OSError:
        return False
    if len(answer) < _START_FRAME.size:
        return False
    kind, channel, _, class_id, method_id = _START_FRAME.unpack(answer)
    return (kind, channel, class_id, method_id) == (1, 0, 10, 10)


def wait_until(
    ready: Callable[[], bool],
    process: subprocess.Popen[bytes] | None,
    seconds: float,
    tail: Callable[[], str],
) -> None:
    """Ask `ready` until it says yes.

    Raises:
        BrokerUnavailable: the process ended, or the time is up; with the end of its log.

    """
    deadline = time.monotonic() + seconds
    while not ready():
        code = process.poll() if process is not None else None
        if code is not None:
            raise BrokerUnavailable(
                f"RabbitMQ ended with exit code {code} while starting:\n{tail()}"
            )
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"RabbitMQ did not answer within {seconds:g} s:\n{tail()}")
        time.sleep(0.05)


_OPENSSL_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = localhost
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[host]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
"""


def make_certificates(folder: Path) -> None:
    """Write a throw-away authority (`ca.pem`) and a certificate for localhost (`host.pem`, `host.key`).

    Raises:
        BrokerUnavailable: the command openssl is missing or failed.

    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise BrokerUnavailable(
            "The openssl command is needed to make a certificate and was not found."
        )
    (folder / "ssl.cnf").write_text(_OPENSSL_CONFIG)
    for command in (
        "ecparam -genkey -name prime256v1 -noout -out ca.key",
        "ecparam -genkey -name prime256v1 -noout -out host.key",
        "req -new -x509 -config ssl.cnf -extensions ca -subj /CN=authority -key ca.key -out ca.pem",
        "req -new -config ssl.cnf -key host.key -out host.csr",
        "x509 -req -in host.csr -CA ca.pem -CAkey ca.key -set_serial 1 -extfile ssl.cnf -extensions host -out host.pem",
    ):
        done = run([openssl, *command.split()], folder=folder)
        if done.returncode:
            raise BrokerUnavailable(f"openssl {command.split()[0]} failed: {done.stderr.strip()}")


START_TIMEOUT = 60.0
"""Seconds a server may take to answer its first AMQP handshake."""
