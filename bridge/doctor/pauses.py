"""Which vendors are paused, and whether a worker can know."""

from collections.abc import Iterator
from typing import Final

from bridge.dialects.topology import Exchange
from bridge.doctor.facts import Surroundings
from bridge.doctor.findings import Check, Finding, ok, some, unknown, warn
from bridge.rabbitmq.probing import Right


def check_paused(known: Surroundings) -> Iterator[Finding]:
    if known.broker.host is None or known.broker_error:
        return
    if known.paused:
        vendors = tuple(known.paused)
        yield warn(
            "paused",
            f"{some(vendors)} {'is' if len(vendors) == 1 else 'are'} paused: no worker takes the "
            "requests, and they wait",
            f"when the backend is well: dtbridge resume {vendors[0]}",
        )
    questions = next((each for each in known.plan.control if isinstance(each, Exchange)), None)
    if questions is None:
        return
    seen = known.broker.part(questions.name, is_queue=False)
    if seen is None or seen.there is Right.UNKNOWN or seen.write is Right.UNKNOWN:
        yield unknown("paused", "whether vendors can be paused is not known")
    elif seen.there is Right.REFUSED:
        yield warn(
            "paused",
            f"vendors cannot be paused: there is no exchange {questions.name}",
            "start a worker, which makes it, or dtbridge topology apply",
        )
    elif seen.write is Right.REFUSED:
        yield warn(
            "paused",
            f"vendors cannot be paused: this user may not write to {questions.name}",
            "grant it (docs/contract.md, Rights)",
        )
    elif not known.paused:
        yield ok("paused", "no vendor is paused" if known.vendors else "vendors can be paused")


CHECKS: Final[tuple[Check[Surroundings], ...]] = (check_paused,)
