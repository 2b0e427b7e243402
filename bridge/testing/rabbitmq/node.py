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
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.testing.rabbitmq.home import (
    START_TIMEOUT,
    Home,
    accepts,
    free_ports,
    make_certificates,
    speaks_amqp,
    wait_until,
)
from bridge.testing.rabbitmq.server import BrokerUnavailable, find_server, root_of, run

STOP_TIMEOUT = 20.0
"""Seconds an orderly stop may take before the process is killed."""


# --- Finding and installing the server --------------------------------------------------------------------------------


# --- Processes that cannot outlive us ---------------------------------------------------------------------------------


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
        _home: Home | None = None,
    ) -> None:
        found = server or find_server()
        if found is None:
            raise BrokerUnavailable(
                "RabbitMQ is not installed: there is no rabbitmq-server on this machine."
            )
        self.server = found
        self.node = f"{name}-{secrets.token_hex(4)}@localhost"
        self.start_timeout = start_timeout
        self._own_home = _home is None
        self._home = _home or Home(root_of(found))
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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
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
        self._process = self._home.spawn(
            self._key, self._home.command(self.server), self._environment()
        )

    def _wait_ready(self) -> None:
        wait_until(self._is_ready, self._process, self.start_timeout, self._tail)

    def _is_ready(self) -> bool:
        return speaks_amqp("127.0.0.1", self.port) and (not self._tls or accepts(self.tls_port))

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
        with contextlib.suppress(
            ProcessLookupError, PermissionError
        ):  # Erlang's helpers, in the same group
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
        done = run(command, environment=self._environment(), folder=self._home.folder)
        if done.returncode:
            raise BrokerUnavailable(
                f"rabbitmqctl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}"
            )
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
            raise BrokerUnavailable(
                f"Erlang could not evaluate {expression!r}: {text or 'its console has ended'}"
            )
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
                    "erl",
                    *options,
                    *_LOOPBACK_DISTRIBUTION.split(),
                    "-eval",
                    _CONSOLE.replace("NODE", self.node),
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


# --- Other ways to a broker -------------------------------------------------------------------------------------------
