"""A PostgreSQL of a test's own: a cluster on loopback, in a folder that is gone at the end.

Nothing is asked of one that runs here already. Root may not run PostgreSQL: then it runs as the
user ``postgres``, whom Debian's package has made.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

import psycopg

from bridge.testing.rabbitmq import free_ports
from tests.processes import end_with_parent

USER: Final = "postgres"
START_TIMEOUT: Final = 30.0
"""Seconds until it must answer; it needs some tenths, and a second after it was killed."""
_DEBIAN: Final = Path("/usr/lib/postgresql")
"""Where the packages put their programs, in a folder for each version."""

_SETTINGS: Final = {
    "fsync": "off",  # it may be killed, and what it had written is there; the machine may not be
    "max_connections": "50",
    "shared_buffers": "16MB",
    "log_min_messages": "fatal",
}


class PostgresMissingError(Exception):
    """There is no PostgreSQL on this machine."""


def _program(name: str) -> str:
    newest_first = sorted(_DEBIAN.glob("*/bin"), key=lambda path: -float(path.parent.name))
    path = os.pathsep.join(map(str, newest_first))
    found = shutil.which(name, path=path) or shutil.which(name)
    if found is None:
        raise PostgresMissingError(
            f"{name} is not here: `make test` and `make faults` install PostgreSQL with apt-get"
        )
    return found


class PostgresServer:
    """A server that can be killed, stopped, and started again on its port. It keeps what it has."""

    def __init__(self) -> None:
        """Raises PostgresMissingError if PostgreSQL is not installed."""
        self._initdb, self._postgres = _program("initdb"), _program("postgres")
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            try:
                entry = pwd.getpwnam(USER)
            except KeyError:
                raise PostgresMissingError(f"there is no user {USER} to run it as") from None
            self._as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        self._folder = Path(tempfile.mkdtemp(prefix="dtbridge-postgres-"))
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        [self.port] = free_ports(1)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        if self._as_user:
            os.chown(self._folder, self._as_user["user"], self._as_user["group"])
        subprocess.run(
            [
                *(self._initdb, "--pgdata", str(self._data), "--username", USER),
                *("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync"),
            ],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            **self._as_user,
        )
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start it, unless it runs, and return when it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
            **_SETTINGS,
        }
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._postgres, "-D", str(self._data)),
                    *(
                        text
                        for name, value in settings.items()
                        for text in ("-c", f"{name}={value}")
                    ),
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGQUIT),  # noqa: PLW1509 - it takes no lock
                **self._as_user,
            )
        give_up_at = time.monotonic() + START_TIMEOUT
        while not self._answers():
            said = (self._folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, f"postgres has ended: {said}"
            assert time.monotonic() < give_up_at, f"postgres does not answer: {said}"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url(), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def kill(self) -> None:
        """As if it had crashed: no connection is closed in order, nothing is finished."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """As an administrator restarts it: connections are ended, transactions rolled back."""
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def create_schema(self) -> str:
        """The URL of a new one, in which everything is made and looked for.

        It stands for a database of one's own, which takes ten times as long to make.
        """
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self.url()}?options=-csearch_path%3D{name}"
