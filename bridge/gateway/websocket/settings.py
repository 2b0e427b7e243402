"""What can be set about a gateway, and the defaults."""

import ssl
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from bridge.gateway.websocket.boot import BootHook
from bridge.gateway.websocket.certificates import Certificates
from bridge.gateway.websocket.connection import CALL_TIMEOUT
from bridge.gateway.websocket.handshake import PREFERRED
from bridge.ocpp import OcppVersion

MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of a decompressed message, in both directions. Most OCPP messages have a few kB;
certificate chains and reports have some 10 kB."""

MAX_CONNECTIONS: Final = 10_000
"""Connections at a time, including those whose handshake is not finished. Each takes 5 kB (40 kB
with compression or TLS) and a file descriptor."""

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for TLS, and again for the HTTP request. A mobile link needs two or three; a peer that
dawdles does not hold its place any longer."""

PING_INTERVAL: Final = 30.0
"""Seconds between pings. Mobile networks forget a silent connection after 30 to 60 s."""

PING_TIMEOUT: Final = 30.0
"""Seconds to wait for the pong. A dead connection is found within a minute, and a slow mobile link
is not taken for a dead one."""

HEARTBEAT_INTERVAL: Final = 300
"""Seconds between Heartbeats, as stations are told. Heartbeats only set the station's clock; pings
watch the connection."""

DRAIN_TIMEOUT: Final = 20.0
"""Seconds to drain: as long as a handler may take. Kubernetes kills a pod after 30 s unless told
otherwise, and closing the connections to stations and to the broker may take 5 s each."""


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """How a gateway works."""

    host: str | None = "127.0.0.1"
    """The address to listen on. None: every interface."""
    port: int = 9000
    """0: a free port."""
    reuse_port: bool = False
    """Whether other processes of this user may listen there as well (SO_REUSEPORT)."""
    path: str = ""
    """What comes before the station's id in the URL's path, such as "/ocpp"; "" for nothing. Or the
    whole path, such as "/*/{id}": see `handshake.station_id`."""
    versions: Sequence[OcppVersion] = PREFERRED
    """The versions of OCPP that the gateway speaks, the preferred one first."""
    default_version: OcppVersion | None = None
    """What is spoken with a station that offers no version at all. None: it is closed."""
    tls: ssl.SSLContext | Certificates | None = None
    """None: without TLS. If it demands certificates of clients, the common name or a DNS name of a
    station's certificate is the station's id (OCPP's security profile 3). The files of
    :class:`~bridge.gateway.websocket.certificates.Certificates` are read again when they change."""
    call_timeout: float = CALL_TIMEOUT
    """Seconds that the bridge may take to answer a station's DataTransfer."""
    heartbeat_interval: int = HEARTBEAT_INTERVAL
    """Seconds between Heartbeats, as stations are told."""
    on_boot: BootHook | None = None
    """How a station that boots is answered. None: Accepted."""
    max_message: int = MAX_MESSAGE
    """Bytes of a message. A station that sends a longer one is disconnected (close code 1009); a
    longer payload is not sent to a station."""
    max_rate: float = 0.0
    """Messages of one station that are read in a second, and a tenth of that at once. What is
    beyond is read later. 0: no bound."""
    max_connections: int = MAX_CONNECTIONS
    """Connections at a time. One more is closed as soon as it opens."""
    max_per_address: int = MAX_CONNECTIONS
    """Connections at a time of one IPv4 address, or of one IPv6 /64. Behind a proxy all stations
    have one."""
    allowed_origins: Sequence[str] = ()
    """Origins of web pages that may connect as stations; "*" is any."""
    handshake_timeout: float = HANDSHAKE_TIMEOUT
    """Seconds for TLS, and again for the HTTP request."""
    ping_interval: float = PING_INTERVAL
    """Seconds between pings."""
    ping_timeout: float = PING_TIMEOUT
    """Seconds to wait for the pong."""
    drain_timeout: float = DRAIN_TIMEOUT
    """Seconds to finish what is outstanding when the gateway is asked to stop."""

    @property
    def verifies(self) -> bool:
        """Whether stations must have certificates."""
        if isinstance(self.tls, Certificates):
            return self.tls.verifies
        return self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED
