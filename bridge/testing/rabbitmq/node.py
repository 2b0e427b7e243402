"""One RabbitMQ node on loopback: starting, stopping, killing, freezing and questioning it."""

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from bridge.dialects.partitions import PLUGIN
from bridge.testing.rabbitmq.certificates import make_certificates
from bridge.testing.rabbitmq.console import Console
from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.home import LOOPBACK_DISTRIBUTION, Home
from bridge.testing.rabbitmq.ports import accepts, answers_http, free_ports, speaks_amqp
from bridge.testing.rabbitmq.process import run, wait_until
from bridge.testing.rabbitmq.server import find_server, root_of

MANAGEMENT = "rabbitmq_management"
"""The plugin of the management API."""
START_TIMEOUT = 60.0
"""Seconds a node may take until it answers its first AMQP handshake."""
STOP_TIMEOUT = 20.0
"""Seconds an orderly stop may take before the process is killed."""
START_ATTEMPTS = 3
"""Starts of a new node, each with other ports, when somebody else takes one of ours."""

_APPLICATIONS = (
    *("kernel", "stdlib", "sasl", "mnesia", "compiler", "xmerl", "inets", "ssl", "public_key"),
    *("rabbit", "rabbit_common", "rabbitmq_prelaunch", "ra", "cuttlefish", "ranch", "osiris"),
    *("observer_cli", "recon", "syslog", "jsx"),
)
"""Erlang's applications whose modules every node loads."""
# One by one, each is looked for in the folders of all plugins first, and each makes Erlang write
# its table of functions anew. What is not there, or not like that, is loaded when it is needed, and
# looked for in their folders first. Expressions without quotes and spaces need none.
_LOAD_AT_ONCE = (
    "-eval code:ensure_modules_loaded([list_to_atom(filename:rootname(File))"
    f"||Application<-[{','.join(_APPLICATIONS)}],"
    "Folder<-[code:lib_dir(Application,ebin)],is_list(Folder),code:add_patha(Folder),"
    "{ok,Files}<-[erl_prim_loader:list_dir(Folder)],File<-Files,"
    "filename:extension(File)==[$.|atom_to_list(beam)]])."
)
"""Options of erl, before RabbitMQ's own: what a node needs is loaded at once."""


class PrivateBroker:
    """One RabbitMQ node on loopback, for as long as the `with` block lasts.

    >>> with PrivateBroker() as broker:  # doctest: +SKIP
    ...     print(broker.url)
    amqp://guest:guest@127.0.0.1:23456/

    Args:
        name: begins the node's name.
        plugins: names of RabbitMQ plugins to enable; by default the one that partitions need. With
            `rabbitmq_management`, there is a `management_url`.
        config: further lines of rabbitmq.conf, as text or as a mapping.
        advanced: what rabbitmq.conf has no names for, as Erlang terms (advanced.config).
        tls: also listen with TLS. The certificate is for localhost and 127.0.0.1, from a throw-away
            authority (`ca_file`).
        server: the rabbitmq-server script; by default the one that `find_server` finds.
        start_timeout: seconds until the first AMQP handshake.
        home: the home that the node shares with others of a cluster; by default one of its own.

    Raises:
        BrokerUnavailable: there is no rabbitmq-server on this machine.

    """

    def __init__(
        self,
        *,
        name: str = "dtbridge",
        plugins: Sequence[str] = (PLUGIN,),
        config: str | Mapping[str, object] = "",
        advanced: str = "",
        tls: bool = False,
        server: Path | None = None,
        start_timeout: float = START_TIMEOUT,
        home: Home | None = None,
    ) -> None:
        found = server or find_server()
        if found is None:
            raise BrokerUnavailable(
                "RabbitMQ is not installed: there is no rabbitmq-server on this machine."
            )
        self.server = found
        self.node = f"{name}-{secrets.token_hex(4)}@localhost"
        self.start_timeout = start_timeout
        self._owns_home = home is None
        self._home = home or Home(root_of(found))
        self._key = self.node.partition("@")[0]
        self.folder = self._home.folder / self._key
        self._plugins = list(plugins)
        self._config = config if isinstance(config, str) else _config_lines(config)
        self._advanced = advanced
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        self._console = Console(self._home, self.node)
        self._take_ports()

    def _take_ports(self) -> None:
        self.port, self._distribution_port, self.tls_port, self.management_port = free_ports(4)

    @property
    def url(self) -> str:
        """The AMQP URL of the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def tls_url(self) -> str:
        """The AMQPS URL of the default virtual host, for a node made with `tls=True`."""
        return f"amqps://guest:guest@localhost:{self.tls_port}/"

    @property
    def management_url(self) -> str:
        """The URL of the management API; empty if its plugin is not enabled."""
        has_it = MANAGEMENT in self._plugins
        return f"http://guest:guest@127.0.0.1:{self.management_port}/" if has_it else ""

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that signed the server's, in PEM."""
        return self.folder / "ca.pem"

    @property
    def log_file(self) -> Path:
        """RabbitMQ's own log: warnings and errors."""
        return self.folder / "log" / "rabbit.log"

    @property
    def pid(self) -> int:
        """The process number of the Erlang machine, RabbitMQ itself.

        Raises:
            BrokerUnavailable: the node does not run.

        """
        if self._process is None or self._process.poll() is not None:
            raise BrokerUnavailable("This RabbitMQ node does not run.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there; frozen counts as running."""
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "stopped"
        return f"<PrivateBroker {self.node} on port {self.port}, {state}>"

    def _start_first(self) -> None:
        """Start; with other ports if somebody else has taken one of ours meanwhile."""
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self.start()
            except BrokerUnavailable as error:
                if attempt == START_ATTEMPTS or "eaddrinuse" not in str(error):
                    raise
                self.kill()
                self._take_ports()
            else:
                return

    def start(self) -> None:
        """Start the node on the data and ports it had before, and wait until it is ready.

        Raises:
            BrokerUnavailable: it does not come up within `start_timeout`, or runs already.

        """
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the process and do not wait for it; see `wait_ready`.

        Raises:
            BrokerUnavailable: the node runs already.

        """
        if self.running:
            raise BrokerUnavailable("This RabbitMQ node runs already.")
        self._home.start_epmd()
        self.folder.mkdir(exist_ok=True)
        if self._tls and not self.ca_file.exists():
            make_certificates(self.folder)
        (self.folder / "rabbitmq.conf").write_text(self._settings())
        if self._advanced:
            (self.folder / "advanced.config").write_text(self._advanced)
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        self._process = self._home.spawn(
            self._key,
            self._home.command(self.server),
            self._environment() | {"ERL_AFLAGS": _LOAD_AT_ONCE},
        )

    def wait_ready(self) -> None:
        """Wait until the node speaks AMQP, and accepts connections at its other ports.

        Raises:
            BrokerUnavailable: it does not come up within `start_timeout`.

        """
        wait_until(self._is_ready, self._process, self.start_timeout, self._tail)

    def _is_ready(self) -> bool:
        return (
            speaks_amqp("127.0.0.1", self.port)
            and (not self._tls or accepts(self.tls_port))
            and (MANAGEMENT not in self._plugins or self._answers_management())
        )

    def _answers_management(self) -> bool:
        # For a moment after its port is open, RabbitMQ 4.3 answers 500.
        return answers_http(self.management_port, "/api/overview", "guest:guest")

    def stop(self) -> None:
        """Stop in good order, as a service manager does: SIGTERM, then SIGKILL if it takes long."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """End the node at once, as the kernel does when memory runs out: SIGKILL.

        A quorum queue that was declared less than half a second before may be lost with all it
        holds; `sync` prevents that.
        """
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        # Erlang's helpers are in the same process group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
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
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WUNTRACED)  # until its last thread has stopped

    def resume(self) -> None:
        """Let a frozen node go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl ARGUMENTS` prints. It takes 0.4 to 2 s; `eval` is faster.

        Raises:
            BrokerUnavailable: it failed. The text is what it printed.

        """
        command = self._home.command(self.server.parent / "rabbitmqctl", "--quiet", *arguments)
        done = run(command, environment=self._environment(), folder=self._home.folder)
        if done.returncode:
            raise BrokerUnavailable(
                f"rabbitmqctl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}"
            )
        return done.stdout

    @property
    def shell_command(self) -> str:
        """`rabbitmqctl` for this node, as one types it into a shell; arguments may follow.

        Empty if the server belongs to the root folder of another Linux: that takes a script.
        """
        if self._home.root is not None:
            return ""
        environment = self._environment()
        needed = ("HOME", "ERL_EPMD_PORT", "RABBITMQ_NODENAME")
        given = (f"{name}={environment[name]}" for name in needed)
        return shlex.join(["env", *given, str(self.server.parent / "rabbitmqctl")])

    def eval(self, expression: str) -> str:
        """The value of an Erlang expression on the node, as Erlang prints it.

        It takes milliseconds.

        Raises:
            BrokerUnavailable: the expression failed, or the node cannot be reached.

        """
        return self._console.eval(expression)

    def sync(self) -> None:
        """Have the node write its register of quorum queues, as it does every half second.

        Without this, a queue that was declared just before a `kill` never answers again: the node
        knows its name, but not its log.
        """
        self.eval("lists:foreach(fun dets:sync/1, dets:all())")

    def add_vhost(self, name: str) -> str:
        """Make a virtual host in which guest may do everything, and return its URL.

        `name` is plain ASCII.
        """
        self.eval(
            f'ok = rabbit_vhost:add(<<"{name}">>, <<"guest">>), '
            "ok = rabbit_auth_backend_internal:set_permissions("
            f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"guest">>)'
        )
        return self.url + name

    def delete_vhost(self, name: str) -> None:
        """Remove a virtual host with all that is in it; connections to it are closed."""
        self.eval(f'rabbit_vhost:delete(<<"{name}">>, <<"guest">>)')

    def close(self) -> None:
        """End the node and, unless it shares its home, remove what it wrote.

        The data is thrown away, so SIGKILL will do.
        """
        self._console.close()
        self.kill()
        if self._owns_home:
            self._home.close()

    def _settings(self) -> str:
        settings: dict[str, object] = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "loopback_users": "none",
            "num_acceptors.tcp": 2,
            "log.console": "false",
            "log.file": "rabbit.log",
            "log.file.level": "warning",
            "disk_free_limit.absolute": "1MB",
            # What quorum queues keep in memory before they write a segment; 512 MB by default.
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
        if MANAGEMENT in self._plugins:
            settings |= {
                "management.tcp.ip": "127.0.0.1",
                "management.tcp.port": self.management_port,
            }
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
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": LOOPBACK_DISTRIBUTION,
            "RABBITMQ_CTL_ERL_ARGS": LOOPBACK_DISTRIBUTION,
            # The script then becomes the Erlang machine (exec) instead of starting it as a child.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _tail(self, lines: int = 30) -> str:
        log = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return "\n".join((self._home.output_of(self._key) + log).splitlines()[-lines:])


def _config_lines(settings: Mapping[str, object]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in settings.items())
