"""A throw-away certificate for localhost, made with openssl."""

import shutil
from pathlib import Path

from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.process import run

_CONFIG = """
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
_COMMANDS = """
ecparam -genkey -name prime256v1 -noout -out ca.key
ecparam -genkey -name prime256v1 -noout -out host.key
req -new -x509 -config ssl.cnf -extensions ca -subj /CN=authority -key ca.key -out ca.pem
req -new -config ssl.cnf -key host.key -out host.csr
x509 -req -in host.csr -CA ca.pem -CAkey ca.key -set_serial 1 -extfile ssl.cnf -extensions host \
    -out host.pem
"""
"""What openssl is asked to do, a command a line."""


def make_certificates(folder: Path) -> None:
    """Write a certificate authority (`ca.pem`) and a certificate (`host.pem`, `host.key`).

    The certificate is for localhost and 127.0.0.1.

    Raises:
        BrokerUnavailable: the command openssl is missing or failed.

    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise BrokerUnavailable(
            "The openssl command is needed to make a certificate and was not found."
        )
    (folder / "ssl.cnf").write_text(_CONFIG)
    for arguments in map(str.split, _COMMANDS.strip().splitlines()):
        done = run([openssl, *arguments], folder=folder)
        if done.returncode:
            raise BrokerUnavailable(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
