"""Vendors that are paused: their intakes begin nothing, and the log says so."""

from collections.abc import Mapping

from bridge.telemetry.logs import get_logger
from bridge.worker.intake import Intake

log = get_logger("bridge.worker")


class Pausing:
    """What is done when the transport tells that a vendor is paused, or is not any more.

    Its :meth:`on_pause` is the listener of :meth:`~bridge.transport.Transport.watch_pauses`.
    """

    def __init__(self, vendors: Mapping[str, tuple[str, Intake]], *, shared: bool) -> None:
        """`vendors`: by key, the vendorId and the intake of each.

        `shared`: they all share queues, which are consumed on.
        """
        self._vendors = vendors
        self._shared = shared

    @property
    def keys(self) -> tuple[str, ...]:
        """Of all vendors that can be paused."""
        return tuple(self._vendors)

    def on_pause(self, key: str, paused: bool) -> None:
        """A vendor is paused, or is not any more."""
        vendor, intake = self._vendors[key]
        if not paused:
            intake.resume()
            log.info("vendor resumed", vendor=vendor)
            return
        given_back = intake.pause()
        log.warning(
            "vendor paused",
            vendor=vendor,
            reason="somebody has said dtbridge pause",
            requests="go round until their deadline" if self._shared else "wait in their queue",
            given_back=given_back,
            running=intake.running,
        )
