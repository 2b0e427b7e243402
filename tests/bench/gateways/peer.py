"""What the gateways that this project's is measured beside have in common: their command line."""

import argparse
import ssl
from typing import NamedTuple


class PeerOptions(NamedTuple):
    """The command line of every peer."""

    url: str
    port: int
    tls: ssl.SSLContext | None
    uvloop: bool


def peer_options() -> PeerOptions:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("--uvloop", action="store_true", help="not asyncio's own event loop")
    given = parser.parse_args()
    tls = None
    if given.tls_cert is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(given.tls_cert, given.tls_key)
    return PeerOptions(given.url, given.port, tls, given.uvloop)
