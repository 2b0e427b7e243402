"""Makes the accounts of a deployment, once: python make_secrets.py FOLDER BROKER.

BROKER is HOST:PORT of RabbitMQ, as the others reach it. Each account has a random password and no
more rights than it needs. A folder of its own holds what one service may read::

    broker/    definitions.json, which RabbitMQ imports, and admin-password
    worker/    amqp-url, redis-url
    gateway/   amqp-url
    client/    amqp-url
    operator/  amqp-url
    scaler/    management-url: KEDA's
    redis/     users.acl, which Redis reads
    grafana/   admin-password

compose.yaml mounts the folders, and in Kubernetes each is a Secret. What is there already stays.
The standard library is enough for it.
"""

import argparse
import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

PERMISSIONS = {
    "worker": (
        r"^datatransfer(?!\.replies\.)([.-].*)?$",
        r"^(amq\.default|datatransfer(?!\.replies\.)([.-].*)?)$",
        r"^datatransfer(?!\.replies\.)([.-].*)?$",
    ),
    "gateway": (
        r"^amq\.gen-.*$",
        r"^(amq\.gen-.*|amq\.default|datatransfer(\.unrouted)?)$",
        r"^(amq\.gen-.*|datatransfer\.stations)$",
    ),
    "client": (
        r"^amq\.gen-.*$",
        r"^datatransfer(\.stations)?$",
        r"^amq\.gen-.*$",
    ),
    "operator": (
        r"^(amq\.gen-.*|datatransfer(?!\.replies\.)([.:-].*)?)$",
        r"^(amq\.gen-.*|amq\.default|datatransfer(?!\.replies\.)([.:-].*)?)$",
        r"^(amq\.gen-.*|datatransfer(?!\.replies\.)([.:-].*)?)$",
    ),
}
"""What an account may configure, write and read: bridge/dialects/permissions.py, as far as this
file can do without it. The workers declare their queues; the gateway declares nothing."""

TAGS = {"operator": ["monitoring"]}
"""For the management API."""

EXCHANGES = (
    ("datatransfer.unrouted", "fanout", {}),
    ("datatransfer", "direct", {"alternate-exchange": "datatransfer.unrouted"}),
    ("datatransfer.stations", "direct", {}),
)
"""Name, type and arguments of what a gateway needs, which may come before the first worker."""

ADMIN = "admin"
"""The one account of the management interface."""

SCALER = "scaler"
"""KEDA's: it reads the lengths and rates of queues from the management API, and nothing else."""

REDIS = "redis:6379"
"""Where workers reach the store of replies, unless it is given."""
REDIS_RIGHTS = "~dtbridge:reply:* resetchannels -@all +set +get +del +pexpire +ping"
"""What a worker may do in Redis: its own keys, and the calls of ``bridge.idempotency.redis``."""


def password_hash(password: str) -> str:
    """As RabbitMQ keeps it: a salt of 4 bytes, and SHA-256 of it and the password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(
    passwords: Mapping[str, str], vhost: str = "/", more: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """What RabbitMQ imports. A node that does makes no default user.

    `more`: further definitions, such as ``deploy/rabbitmq/policies.json``.
    """
    tags = {**TAGS, ADMIN: ["administrator"], SCALER: ["monitoring"]}
    rights = {**PERMISSIONS, ADMIN: (".*", ".*", ".*"), SCALER: ("^$", "^$", "^$")}
    made: dict[str, Any] = {
        "vhosts": [{"name": vhost}],
        "users": [
            {
                "name": name,
                "password_hash": password_hash(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": tags.get(name, []),
            }
            for name, password in passwords.items()
        ],
        "permissions": [
            {"user": name, "vhost": vhost, "configure": configure, "write": write, "read": read}
            for name, (configure, write, read) in rights.items()
        ],
        "exchanges": [
            {
                "name": name,
                "vhost": vhost,
                "type": kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": arguments,
            }
            for name, kind, arguments in EXCHANGES
        ],
    }
    for each in more:
        for kind, values in each.items():
            made[kind] = [*made.get(kind, []), *values]
    return made


def amqp_url(user: str, password: str, host: str, vhost: str = "/") -> str:
    """The URL of an account, with whatever is special in a URL escaped."""
    parts = (quote(part, safe="") for part in (user, password, vhost))
    return "amqp://{}:{}@{host}/{}".format(*parts, host=host)


def redis_users(password: str) -> str:
    """Redis' list of users: the worker, and nobody else."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user default off\nuser worker on #{digest} {REDIS_RIGHTS}"


def make(
    folder: Path, broker: str, redis: str = REDIS, more: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """Write what is missing. Returns whose secrets were made.

    What two services share is made anew for both. The file that is looked for is written last.
    """
    made = []
    imported = folder / "broker" / "definitions.json"
    if not imported.exists():
        passwords = {name: password() for name in (*PERMISSIONS, ADMIN, SCALER)}
        for name in PERMISSIONS:
            write(folder / name / "amqp-url", amqp_url(name, passwords[name], broker))
        api = f"{broker.partition(':')[0]}:15672"
        write(folder / SCALER / "management-url", f"http://{SCALER}:{passwords[SCALER]}@{api}/")
        write(folder / "broker" / "admin-password", passwords[ADMIN])
        write(imported, json.dumps(definitions(passwords, more=more), indent=1))
        made.append("broker")
    users = folder / "redis" / "users.acl"
    if not users.exists():
        key = password()
        write(folder / "worker" / "redis-url", f"redis://worker:{key}@{redis}/0")
        write(users, redis_users(key))
        made.append("redis")
    admin = folder / "grafana" / "admin-password"
    if not admin.exists():
        write(admin, password())
        made.append("grafana")
    return made


def password() -> str:
    """A random one, of letters, digits, - and _: nothing in it is special in a URL."""
    return secrets.token_urlsafe(32)


def write(path: Path, text: str) -> None:
    """All at once, for readers who are other users in containers of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(f"{text}\n", encoding="utf-8")
    part.chmod(0o444)
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the accounts of a deployment, once.")
    parser.add_argument("folder", type=Path, help="where the folders of the services are")
    parser.add_argument("broker", metavar="HOST:PORT", help="RabbitMQ, as the others reach it")
    parser.add_argument("--redis", metavar="HOST:PORT", default=REDIS, help="the store of replies")
    parser.add_argument(
        "--import",
        dest="more",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="further definitions for RabbitMQ",
    )
    given = parser.parse_args()
    more = [json.loads(path.read_text(encoding="utf-8")) for path in given.more]
    made = make(given.folder, given.broker, given.redis, more)
    print("made: " + ", ".join(made) if made else "there already")  # noqa: T201


if __name__ == "__main__":
    main()
