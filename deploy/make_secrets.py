"""Makes the accounts of compose.yaml, once: python make_secrets.py FOLDER HOST.

Each account has a random password and no more rights than it needs. A folder of its own holds what
one service may read: ``broker/definitions.json``, which RabbitMQ imports, and the URLs of the
others. The standard library is enough for it.
"""

import base64
import hashlib
import json
import secrets
import sys
from pathlib import Path
from urllib.parse import quote

PERMISSIONS = {
    "worker": (
        r"^datatransfer(?!\.replies\.)(\..*)?$",
        r"^(amq\.default|datatransfer(?!\.replies\.)(\..*)?)$",
        r"^datatransfer(?!\.replies\.)(\..*)?$",
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
        r"^(amq\.gen-.*|datatransfer(?!\.replies\.)([.:].*)?)$",
        r"^(amq\.gen-.*|amq\.default|datatransfer(?!\.replies\.)([.:].*)?)$",
        r"^(amq\.gen-.*|datatransfer(?!\.replies\.)([.:].*)?)$",
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


def password_hash(password: str) -> str:
    """As RabbitMQ keeps it: a salt of 4 bytes, and SHA-256 of it and the password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(passwords: dict[str, str], vhost: str = "/") -> dict[str, object]:
    """What RabbitMQ imports. A node that does makes no default user."""
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            {
                "name": name,
                "password_hash": password_hash(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ["administrator"] if name == ADMIN else TAGS.get(name, []),
            }
            for name, password in passwords.items()
        ],
        "permissions": [
            {"user": name, "vhost": vhost, "configure": configure, "write": write, "read": read}
            for name, (configure, write, read) in {
                **PERMISSIONS,
                ADMIN: (".*", ".*", ".*"),
            }.items()
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


def amqp_url(user: str, password: str, host: str, vhost: str = "/") -> str:
    """The URL of an account, with whatever is special in a URL escaped."""
    parts = (quote(part, safe="") for part in (user, password, vhost))
    return "amqp://{}:{}@{host}/{}".format(*parts, host=host)


def make(folder: Path, host: str) -> bool:
    """Write the files. False if they are there already."""
    imported = folder / "broker" / "definitions.json"
    if imported.exists():
        return False
    passwords = {name: secrets.token_urlsafe(32) for name in (*PERMISSIONS, ADMIN)}
    for name in PERMISSIONS:
        write(folder / name / "amqp-url", amqp_url(name, passwords[name], host))
    write(folder / "broker" / "admin-password", passwords[ADMIN])
    # Last: while it is missing, everything is made anew.
    write(imported, json.dumps(definitions(passwords), indent=1))
    return True


def write(path: Path, text: str) -> None:
    """All at once, for readers who are other users in containers of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(f"{text}\n", encoding="utf-8")
    part.chmod(0o444)
    part.replace(path)


if __name__ == "__main__":
    print("made" if make(Path(sys.argv[1]), sys.argv[2]) else "there already")  # noqa: T201
