"""A worker on RabbitMQ for a program that has an event loop of its own.

``dtbridge run`` is such a program, and has what surrounds it besides: options, signals, logs,
health, several processes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.dialects.dialect import Dialect
from bridge.dialects.native import Native
from bridge.dialects.partitions import partitions_of
from bridge.dialects.topology import Mode, QueueType, worker_topology
from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Store
from bridge.rabbitmq.hosts import Hosts
from bridge.rabbitmq.transport import START_TIMEOUT, RabbitTransport
from bridge.routing.router import Router
from bridge.telemetry.events import EventMode
from bridge.worker.worker import Settings, Worker

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


def make_worker(
    routers: Router | Sequence[Router],
    urls: str | Sequence[str],
    *,
    topology: Mode | str = Mode.DECLARE,
    queue_type: QueueType | str = QueueType.QUORUM,
    connect_timeout: float = START_TIMEOUT,
    dialect: Dialect | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
    name: str = "dtbridge",
    tracer_provider: "TracerProvider | None" = None,
) -> Worker:
    """A worker that has yet to be run. Nothing is connected before that.

    >>> worker = make_worker([router], "amqp://localhost")
    >>> await worker.run()  # until worker.stop() is called

    `urls`: the broker's URL, or one for each of its hosts; ``@FILE`` stands for those that a file
    holds, which is read again when it changes. `topology`: ``declare`` exchanges and queues,
    ``verify`` that they are there, or ``none`` for taking them for granted. `queue_type`:
    ``quorum`` or ``classic``. `connect_timeout`: seconds to find a broker, for the first
    connection. `store`: where replies are kept for requests that come again; None: in this worker's
    memory. All else as for :class:`~bridge.worker.worker.Worker`.

    Raises ValueError for an invalid URL, topology or queue type, and what ``Worker`` raises.
    """
    routers = [routers] if isinstance(routers, Router) else routers
    spoken: Dialect = dialect or Native()
    chosen = settings or Settings()
    needed = worker_topology(
        spoken,
        [router.vendor_id for router in routers],
        Mode(topology),
        QueueType(queue_type),
        events=chosen.events is not EventMode.NONE,
        partitions=partitions_of(routers),
    )
    transport = RabbitTransport(
        Hosts([urls] if isinstance(urls, str) else urls),
        name=name,
        topology=needed,
        start_timeout=connect_timeout,
    )
    return Worker(
        routers,
        transport,
        dialect=spoken,
        settings=chosen,
        store=MemoryStore() if store is None else store,
        name=name,
        tracer_provider=tracer_provider,
    )
