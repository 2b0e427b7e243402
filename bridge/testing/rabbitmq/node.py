"""A RabbitMQ of one's own, for the demo, the tests and the benchmark: on loopback, and gone without a trace.

`PrivateBroker` starts the `rabbitmq-server` this machine has, with its own ports, node name, cookie, data and log
folder, and its own epmd (Erlang's port mapper), so that it disturbs no RabbitMQ that runs here already. `obtain_broker`
is the same for people: it also installs the server, or uses Docker, and says in one sentence what is missing.

Nothing outlives us. Every process runs in its own group and its number lies in the broker's temporary folder; a guard
process, which holds the read end of a pipe, ends them and removes the folder when the pipe closes. That happens at
`close()`, and also when Python itself was killed.
"""

import base64
import contextlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

START_TIMEOUT = 60.0
"""Seconds a server may take to answer its first AMQP handshake."""

STOP_TIMEOUT = 20.0
"""Seconds an orderly stop may take before the process is killed."""

DOCKER_IMAGE = "rabbitmq:4"

Log = Callable[[str], None]
"""Takes one line for the person who waits."""

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_START_FRAME = struct.Struct(">BHIHH")
"""The beginning of every server's first frame: type 1, channel 0, size, class 10, method 10 (Connection.Start)."""


class BrokerUnavailable(RuntimeError):
    """There is no RabbitMQ to be had; the text says why in one sentence."""


class Broker(Protocol):
    """What a caller of `obtain_broker` gets."""

    @property
    def url(self) -> str:
        """The AMQP URL, user and password included."""
        ...


# --- Finding and installing the server --------------------------------------------------------------------------------

_SERVER_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin",
)
_SERVER_PATTERNS = ("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/usr/lib64/rabbitmq/lib/rabbitmq_server-*/sbin")

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
    another Linux that has RabbitMQ and Erlang installed, see `_root_of`.

    Raises:
        BrokerUnavailable: `DTBRIDGE_RABBITMQ_SERVER` names no RabbitMQ.

    """
    given = os.environ.get("DTBRIDGE_RABBITMQ_SERVER")
    if given:
        server = _own_script(Path(given))
        if server is None:
            raise BrokerUnavailable(f"DTBRIDGE_RABBITMQ_SERVER names no rabbitmq-server script: {given}")
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
    for script in (place, *(place / folder / "rabbitmq-server" for folder in ("", "sbin", _IN_ROOT))):
        if script.is_file() and (script.parent / "rabbitmq-env").is_file() and os.access(script, os.X_OK):
            return script.absolute()
    return None


def _root_of(server: Path) -> Path | None:
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
        raise BrokerUnavailable("The RabbitMQ package was installed, but its rabbitmq-server script was not found.")
    return server


def _as_root() -> list[str]:
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and _run([sudo, "-n", "true"]).returncode == 0:
        return [sudo, "-n"]
    raise BrokerUnavailable(
        "RabbitMQ is not installed, and installing it needs root: run `sudo apt-get install rabbitmq-server`, "
        "or set DTBRIDGE_AMQP_URL to a running one."
    )


def _run_installer(command: Sequence[str]) -> None:
    done = _run(command)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        raise BrokerUnavailable(f"RabbitMQ could not be installed: {last.strip()}")


def _run(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, folder: Path | None = None
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


# --- Processes that cannot outlive us ---------------------------------------------------------------------------------

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


class _Home:
    """What the nodes of one broker or cluster share: the folder, Erlang's cookie, and an epmd of their own."""

    def __init__(self, root: Path | None = None) -> None:
        """`root`: see `_root_of`."""
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
        path = os.pathsep.join([kept.get("PATH", os.defpath), "/usr/local/bin", "/opt/homebrew/bin", "/usr/sbin"])
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
            raise BrokerUnavailable("Erlang's epmd was not found on PATH, so RabbitMQ cannot be started.")
        self._epmd = self.spawn("epmd", self.command(epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"))
        _wait_until(lambda: _accepts(self._epmd_port), self._epmd, 10.0, lambda: self.output_of("epmd"))

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


def _accepts(port: int) -> bool:
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


def _wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes] | None, seconds: float, tail: Callable[[], str]
) -> None:
    """Ask `ready` until it says yes.

    Raises:
        BrokerUnavailable: the process ended, or the time is up; with the end of its log.

    """
    deadline = time.monotonic() + seconds
    while not ready():
        code = process.poll() if process is not None else None
        if code is not None:
            raise BrokerUnavailable(f"RabbitMQ ended with exit code {code} while starting:\n{tail()}")
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"RabbitMQ did not answer within {seconds:g} s:\n{tail()}")
        time.sleep(0.05)


# --- A node -----------------------------------------------------------------------------------------------------------

# A hidden Erlang node that reads expressions from its standard input, evaluates them on the broker's node and prints
# the answer. rabbitmqctl loads a runtime for each (0.4 to 2 s); this takes a millisecond. It ends with the pipe.
_CONSOLE = r"""
Loop = fun Loop() ->
    case io:get_line("") of
        Line when is_list(Line) ->
            {Verdict, Term} = try
                Source = unicode:characters_to_list(base64:decode(string:trim(Line))),
                {ok, Tokens, _} = erl_scan:string(Source),
                {ok, Expressions} = erl_parse:parse_exprs(Tokens),
                case rpc:call('NODE', erl_eval, exprs, [Expressions, []], 60000) of
                    {value, Value, _} -> {"ok", Value};
                    Failure -> {"error", Failure}
                end
            catch _:Reason -> {"error", Reason}
            end,
            Text = unicode:characters_to_binary(io_lib:format("~tp", [Term])),
            io:format("~s ~s~n", [Verdict, base64:encode(Text)]),
            Loop();
        _ -> halt(0)
    end
end, Loop().
"""
_LOOPBACK_DISTRIBUTION = "-kernel inet_dist_use_interface {127,0,0,1}"


class PrivateBroker:
    """One RabbitMQ node on loopback, for as long as the `with` block lasts.

    >>> with PrivateBroker() as broker:  # doctest: +SKIP
    ...     print(broker.url)
    amqp://guest:guest@127.0.0.1:23456/

    Args:
        name: begins the node's name.
        plugins: names of RabbitMQ plugins to enable.
        config: further lines of rabbitmq.conf, as text or as a mapping.
        tls: also listen with TLS, with a certificate for localhost and 127.0.0.1 from a throw-away authority.
        server: the rabbitmq-server script; by default the one `find_server` finds.
        start_timeout: seconds until the first AMQP handshake.

    """

    def __init__(
        self,
        *,
        name: str = "dtbridge",
        plugins: Sequence[str] = (),
        config: str | Mapping[str, object] = "",
        tls: bool = False,
        server: Path | None = None,
        start_timeout: float = START_TIMEOUT,
        _home: _Home | None = None,
    ) -> None:
        found = server or find_server()
        if found is None:
            raise BrokerUnavailable("RabbitMQ is not installed: there is no rabbitmq-server on this machine.")
        self.server = found
        self.node = f"{name}-{secrets.token_hex(4)}@localhost"
        self.start_timeout = start_timeout
        self._own_home = _home is None
        self._home = _home or _Home(_root_of(found))
        self._key = self.node.partition("@")[0]
        self.folder = self._home.folder / self._key
        self._plugins = list(plugins)
        self._config = config if isinstance(config, str) else _config_lines(config)
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        self._console: subprocess.Popen[str] | None = None
        self._take_ports()

    def _take_ports(self) -> None:
        self.port, self._distribution_port, self.tls_port, self.management_port = free_ports(4)

    @property
    def url(self) -> str:
        """The AMQP URL of the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def tls_url(self) -> str:
        """The AMQPS URL of the default virtual host; the node must have been made with `tls=True`."""
        return f"amqps://guest:guest@localhost:{self.tls_port}/"

    @property
    def management_url(self) -> str:
        """The HTTP API, if the plugin rabbitmq_management is enabled."""
        return f"http://guest:guest@127.0.0.1:{self.management_port}/"

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that signed the server's, in PEM."""
        return self.folder / "ca.pem"

    @property
    def log_file(self) -> Path:
        return self.folder / "log" / "rabbit.log"

    @property
    def pid(self) -> int:
        """The process number of the Erlang machine, RabbitMQ itself.

        Raises:
            BrokerUnavailable: the node does not run.

        """
        if not self.running:
            raise BrokerUnavailable("This RabbitMQ node does not run.")
        assert self._process is not None  # noqa: S101 - `running` has said so
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def version(self) -> str:
        """RabbitMQ's own version, such as `3.10.8`."""
        return self.eval("{ok, Version} = application:get_key(rabbit, vsn), Version").strip('"')

    def __enter__(self) -> Self:
        try:
            self._start_first()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "stopped"
        return f"<PrivateBroker {self.node} on port {self.port}, {state}>"

    def _start_first(self, attempts: int = 3) -> None:
        """Start; with other ports if somebody was quicker to use one of ours."""
        for attempt in range(1, attempts + 1):
            try:
                self.start()
            except BrokerUnavailable as error:
                if attempt == attempts or "eaddrinuse" not in str(error):
                    raise
                self.kill()
                self._take_ports()
            else:
                return

    def start(self) -> None:
        """Start the node, on the data and ports it had before, and wait until it speaks AMQP (and TLS, if it is to).

        Raises:
            BrokerUnavailable: it does not come up within `start_timeout`.

        """
        self._launch()
        self._wait_ready()

    def _launch(self) -> None:
        if self.running:
            raise BrokerUnavailable("This RabbitMQ node runs already.")
        self._home.start_epmd()
        self.folder.mkdir(exist_ok=True)
        if self._tls and not self.ca_file.exists():
            make_certificates(self.folder)
        (self.folder / "rabbitmq.conf").write_text(self._settings())
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        self._process = self._home.spawn(self._key, self._home.command(self.server), self._environment())

    def _wait_ready(self) -> None:
        _wait_until(self._is_ready, self._process, self.start_timeout, self._tail)

    def _is_ready(self) -> bool:
        return speaks_amqp("127.0.0.1", self.port) and (not self._tls or _accepts(self.tls_port))

    def stop(self) -> None:
        """Stop in good order, as a service manager does: SIGTERM, and SIGKILL when it takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._ended()

    def kill(self) -> None:
        """End the node at once, as the kernel does when memory runs out: SIGKILL.

        A quorum queue declared less than half a second ago may be lost with all it holds; `sync` prevents that.
        """
        if self._process is None:
            return
        self._process.kill()
        self._ended()

    def _ended(self) -> None:
        assert self._process is not None  # noqa: S101 - both callers have looked
        self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # Erlang's helpers, in the same group
            os.killpg(self._process.pid, signal.SIGKILL)
        self._home.forget(self._key)
        self._process = None

    def restart(self) -> None:
        """Stop in good order and start again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the node: connections stay open and nothing moves (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen node go on."""
        os.kill(self.pid, signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl ARGUMENTS` prints. It takes 0.4 to 2 s; see `eval`.

        Raises:
            BrokerUnavailable: it failed; with what it printed.

        """
        command = self._home.command(self.server.parent / "rabbitmqctl", "--quiet", *arguments)
        done = _run(command, environment=self._environment(), folder=self._home.folder)
        if done.returncode:
            raise BrokerUnavailable(f"rabbitmqctl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def eval(self, expression: str) -> str:
        """The value of an Erlang expression on the node, printed as Erlang prints it. It takes milliseconds.

        Raises:
            BrokerUnavailable: the expression failed, or the node cannot be reached.

        """
        console = self._open_console()
        assert console.stdin is not None  # noqa: S101 - both are pipes
        assert console.stdout is not None  # noqa: S101
        source = expression.strip().removesuffix(".") + "."
        console.stdin.write(base64.b64encode(source.encode()).decode() + "\n")
        console.stdin.flush()
        verdict, _, encoded = console.stdout.readline().strip().partition(" ")
        text = base64.b64decode(encoded).decode()
        if verdict != "ok":
            raise BrokerUnavailable(f"Erlang could not evaluate {expression!r}: {text or 'its console has ended'}")
        return text

    def sync(self) -> None:
        """Have the node write the register of its quorum queues, as it does by itself every half second.

        Without it a queue declared just before a `kill` never answers again: it is known by name, but its log is not.
        """
        self.eval("lists:foreach(fun dets:sync/1, dets:all())")

    def add_vhost(self, name: str) -> str:
        """Make a virtual host that guest may use in full, and return its URL. `name` is plain ASCII."""
        self.eval(
            f'ok = rabbit_vhost:add(<<"{name}">>, <<"guest">>), ok = rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"guest">>)'
        )
        return self.url + name

    def delete_vhost(self, name: str) -> None:
        """Remove a virtual host with all that is in it; connections to it are closed."""
        self.eval(f'rabbit_vhost:delete(<<"{name}">>, <<"guest">>)')

    def close(self) -> None:
        """End the node and remove what it wrote. Its data is thrown away, so it need not be written out first."""
        if self._console is not None:
            self._console.communicate()
            self._console = None
        self.kill()
        if self._own_home:
            self._home.close()

    def _open_console(self) -> subprocess.Popen[str]:
        if self._console is None or self._console.poll() is not None:
            name = f"console-{secrets.token_hex(4)}@localhost"
            options = ["-noshell", "-hidden", "-sname", name, "-kernel", "logger_level", "none"]
            self._console = subprocess.Popen(  # noqa: S603 - a fixed program
                self._home.command(
                    "erl", *options, *_LOOPBACK_DISTRIBUTION.split(), "-eval", _CONSOLE.replace("NODE", self.node)
                ),
                env=self._home.environment,
                cwd=self._home.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        return self._console

    def _settings(self) -> str:
        settings: dict[str, object] = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "loopback_users": "none",
            "num_acceptors.tcp": 2,
            "log.console": "false",
            "log.file": "rabbit.log",
            "log.file.level": "warning",
            "disk_free_limit.absolute": "1MB",
            # Quorum queues keep this much in memory before they write a segment; 512 MB by default.
            "raft.wal_max_size_bytes": 67_108_864,
        }
        if self._tls:
            settings |= {
                "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
                "ssl_options.cacertfile": self.ca_file,
                "ssl_options.certfile": self.folder / "host.pem",
                "ssl_options.keyfile": self.folder / "host.key",
                "ssl_options.verify": "verify_none",
                "ssl_options.fail_if_no_peer_cert": "false",
            }
        if "rabbitmq_management" in self._plugins:
            settings |= {"management.tcp.ip": "127.0.0.1", "management.tcp.port": self.management_port}
        return _config_lines(settings) + self._config

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return self._home.environment | {
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_USE_LONGNAME": "false",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _LOOPBACK_DISTRIBUTION,
            "RABBITMQ_CTL_ERL_ARGS": _LOOPBACK_DISTRIBUTION,
            # The script then becomes the Erlang machine (exec) instead of starting it as a child of a shell.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _tail(self, lines: int = 30) -> str:
        log = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return "\n".join((self._home.output_of(self._key) + log).splitlines()[-lines:])


def _config_lines(settings: Mapping[str, object]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


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
        raise BrokerUnavailable("The openssl command is needed to make a certificate and was not found.")
    (folder / "ssl.cnf").write_text(_OPENSSL_CONFIG)
    for command in (
        "ecparam -genkey -name prime256v1 -noout -out ca.key",
        "ecparam -genkey -name prime256v1 -noout -out host.key",
        "req -new -x509 -config ssl.cnf -extensions ca -subj /CN=authority -key ca.key -out ca.pem",
        "req -new -config ssl.cnf -key host.key -out host.csr",
        "x509 -req -in host.csr -CA ca.pem -CAkey ca.key -set_serial 1 -extfile ssl.cnf -extensions host -out host.pem",
    ):
        done = _run([openssl, *command.split()], folder=folder)
        if done.returncode:
            raise BrokerUnavailable(f"openssl {command.split()[0]} failed: {done.stderr.strip()}")


class PrivateCluster:
    """Several RabbitMQ nodes on loopback, joined into one cluster.

    Args:
        size: how many nodes.
        server: the rabbitmq-server script; by default the one `find_server` finds.

    """

    def __init__(self, size: int = 3, *, server: Path | None = None) -> None:
        server = server or find_server()
        self._home = _Home(_root_of(server) if server else None)
        self.nodes: list[PrivateBroker] = []
        try:
            self.nodes += (
                PrivateBroker(name=f"node{number}", server=server, _home=self._home) for number in range(1, size + 1)
            )
        except BaseException:
            self._home.close()
            raise

    @property
    def urls(self) -> list[str]:
        """One AMQP URL for each node."""
        return [node.url for node in self.nodes]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        """All at once, then one after another into the cluster of the first."""
        for node in self.nodes:
            node._launch()  # noqa: SLF001 - the same module
        for node in self.nodes:
            node._wait_ready()  # noqa: SLF001
        first, *others = self.nodes
        for node in others:
            node.ctl("stop_app")
            node.ctl("join_cluster", first.node)
            node.ctl("start_app")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every node and remove what they wrote."""
        for node in self.nodes:
            node.close()
        self._home.close()


# --- Other ways to a broker -------------------------------------------------------------------------------------------


class GivenBroker:
    """A broker somebody else runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return f"<GivenBroker {re.sub(r'//[^@/]*@', '//', self.url)}>"


class DockerBroker:
    """RabbitMQ in a container that is removed at the end; for machines where the server cannot be installed."""

    def __init__(self, image: str = DOCKER_IMAGE, start_timeout: float = 2 * START_TIMEOUT) -> None:
        self.image = image
        self.start_timeout = start_timeout
        self.name = f"dtbridge-{secrets.token_hex(4)}"
        self.port = 0

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @staticmethod
    def usable() -> bool:
        """Whether there is a docker command with an engine behind it."""
        if shutil.which("docker") is None:
            return False
        try:
            _docker("info")
        except BrokerUnavailable:
            return False
        return True

    def __enter__(self) -> Self:
        _docker("run", "--rm", "--detach", "--name", self.name, "--publish", "127.0.0.1::5672", self.image)
        try:
            self.port = int(_docker("port", self.name, "5672/tcp").split()[0].rpartition(":")[2])
            _wait_until(lambda: speaks_amqp("127.0.0.1", self.port), None, self.start_timeout, self._tail)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(BrokerUnavailable):  # it may have ended by itself
            _docker("rm", "--force", self.name)

    def _tail(self) -> str:
        return _docker("logs", "--tail", "30", self.name)


def _docker(*arguments: str) -> str:
    done = _run(["docker", *arguments])
    if done.returncode:
        raise BrokerUnavailable(f"docker {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def obtain_broker(log: Log = print) -> Iterator[Broker]:
    """A RabbitMQ by the first way that works.

    DTBRIDGE_AMQP_URL if set; else a private node of the installed server; else of one installed now; else Docker.

    Raises:
        BrokerUnavailable: none works; the text says what to do.

    """
    url = os.environ.get("DTBRIDGE_AMQP_URL")
    if url:
        yield GivenBroker(url)
        return
    with _own_broker(log) as broker:
        yield broker


def _own_broker(log: Log) -> PrivateBroker | DockerBroker:
    server = find_server()
    if server is None:
        try:
            server = install_server(log)
        except BrokerUnavailable:
            if not DockerBroker.usable():
                raise
            log(f"Starting RabbitMQ in Docker ({DOCKER_IMAGE}) …")
            return DockerBroker()
    log(f"Starting a private RabbitMQ ({server}) …")
    return PrivateBroker(server=server)


def ensure_server(log: Log = print) -> Path:
    """The installed server's script; it is installed if need be.

    Raises:
        BrokerUnavailable: it cannot be installed.

    """
    return find_server() or install_server(log)
