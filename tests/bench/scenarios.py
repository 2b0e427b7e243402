"""What is measured.

Within a scenario the entries take turns, so that what changes on the machine meets them all.
"""

import msgspec

from tests.bench.subjects import Job
from tests.bench.tables import Entry, Scenario

PEERS = ("aiormq", "aio_pika", "faststream")


class Pace(msgspec.Struct, frozen=True):
    """How long to measure, and how often."""

    rounds: int = 3
    seconds: float = 3.0
    """How long to count at 200 outstanding, in the headline scenario."""
    quick: bool = False

    @property
    def side_seconds(self) -> float:
        """Seconds to count at 200 outstanding, in the other scenarios."""
        return self.seconds / 2

    @property
    def lone_seconds(self) -> float:
        """Seconds to count at one outstanding."""
        return self.seconds / 3

    @property
    def warmup(self) -> float:
        """Seconds before each count."""
        return min(0.5, self.seconds / 4)


def _side_by_side(name: str, title: str, job: Job, *subjects: str) -> Scenario[Job]:
    """A scenario of the bridge, C, and further subjects on the same job."""
    names = ("bridge", "c", *subjects)
    return Scenario(
        name,
        title,
        tuple(Entry(subject, subject, job, None if subject == "c" else "c") for subject in names),
    )


def _vendor_queues(quick: bool) -> Scenario[Job]:
    entries: list[Entry[Job]] = []
    for count in (1, 100) if quick else (1, 100, 1000):
        job = Job(vendors=count)
        queues = f"{count:,} queue{'s' if count > 1 else ''}"
        entries += [
            Entry(f"bridge, {queues}", "bridge", job, f"c, {queues}"),
            Entry(f"c, {queues}", "c", job),
        ]
    return Scenario("vendors", "Vendor queues on one worker", tuple(entries))


def _processes(quick: bool) -> Scenario[Job]:
    counts = (1, 2) if quick else (1, 2, 4)
    labels = {count: f"bridge, {count} process{'es' if count > 1 else ''}" for count in counts}
    entries = [
        Entry(label, "bridge", Job(processes=count), None if count == 1 else labels[1])
        for count, label in labels.items()
    ]
    return Scenario("processes", "Processes of one worker", tuple(entries))


def _idempotency() -> Scenario[Job]:
    on, off = "bridge, replies kept", "bridge, no replies kept"
    entries = (Entry(on, "bridge", Job(), off), Entry(off, "bridge", Job(idempotency="none")))
    return Scenario(
        "idempotency", "What it costs to keep replies for requests that come again", entries
    )


def _metrics() -> Scenario[Job]:
    on, off = "bridge, counted", "bridge, not counted"
    entries = (Entry(on, "bridge", Job(), off), Entry(off, "bridge", Job(counted=False)))
    return Scenario("metrics", "What it costs to count requests for the metrics", entries)


def _scheduling() -> Scenario[Job]:
    batch, normal = Job(scheduling="batch"), Job(scheduling="normal")
    entries = (
        Entry("bridge, batch", "bridge", batch, "c, normal"),
        Entry("bridge, normal", "bridge", normal, "c, normal"),
        Entry("c, batch", "c", batch, "c, normal"),
        Entry("c, normal", "c", normal),
    )
    return Scenario("scheduling", "What the scheduling policy brings", entries)


def _events() -> Scenario[Job]:
    off = "bridge, events off"
    entries = (
        Entry("bridge, all events", "bridge", Job(events="all"), off),
        Entry(off, "bridge", Job()),
    )
    return Scenario("events", "What it costs to publish what became of each request", entries)


def _surrounded() -> Scenario[Job]:
    bare = "bridge, handlers alone"
    entries = (
        Entry("bridge, state and middleware", "bridge", Job(surrounded=True), bare),
        Entry(bare, "bridge", Job()),
    )
    return Scenario("surrounded", "What a lifespan's state and one middleware cost", entries)


def _compiled() -> Scenario[Job]:
    entries = (
        Entry("bridge, compiled", "bridge", Job()),
        Entry("bridge, as Python", "bridge", Job(pure=True), "bridge, compiled"),
    )
    return Scenario("compiled", "What compiling the hot path saves", entries)


def _hang() -> Scenario[Job]:
    calm, hanging = "bridge, all well", "bridge, one vendor hangs"
    entries = (
        Entry(calm, "bridge", Job(vendors=10, first_vendor_hangs=False)),
        Entry(hanging, "bridge", Job(vendors=10, first_vendor_hangs=True), calm),
    )
    return Scenario(
        "hang", "Nine vendors at a fixed rate while the handlers of a tenth hang", entries
    )


def _interpreters(names: list[str]) -> Scenario[Job]:
    entries = [Entry(name, name, Job(), None if name == "bridge" else "bridge") for name in names]
    return Scenario("interpreters", "CPython versions", tuple(entries))


def all_scenarios(pace: Pace, other_bridges: list[str]) -> list[Scenario[Job]]:
    """All scenarios, in the order in which they run."""
    peers = () if pace.quick else PEERS
    sizes = {"100 B": 100, "1 kB": 1_000, "16 kB": 16_000, "200 kB": 200_000}
    scenarios = [_side_by_side("headline", "250-byte request, classic queue", Job(), *PEERS)]
    scenarios += [
        _side_by_side(f"payload-{size}", f"{text} request", Job(size=size), *peers)
        for text, size in sizes.items()
    ]
    scenarios += [
        _side_by_side("quorum", "Quorum queue", Job(queue_type="quorum")),
        _side_by_side("tls", "TLS", Job(tls=True)),
        _side_by_side("deadline", "Requests with a deadline", Job(deadline_ms=30_000)),
        _vendor_queues(pace.quick),
        Scenario(
            "await",
            "Handler that awaits 10 ms (200 outstanding allow at most 20,000/s)",
            (
                Entry("bridge", "bridge", Job(wait_ms=10), "aio_pika"),
                Entry("aio_pika", "aio_pika", Job(wait_ms=10)),
            ),
        ),
        _idempotency(),
        _metrics(),
        _events(),
        _surrounded(),
        _compiled(),
        _scheduling(),
        _hang(),
        _processes(pace.quick),
    ]
    backlog = 100_000 if pace.quick else 1_000_000
    drain = Entry("bridge", "bridge", Job(backlog=backlog))
    scenarios.append(Scenario("backlog", f"Backlog of {backlog:,} requests", (drain,)))
    if other_bridges:
        scenarios.append(_interpreters(["bridge", *other_bridges]))
    return scenarios
