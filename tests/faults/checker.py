"""The proof: what must hold of a run once everything has come to rest."""

from collections import Counter
from typing import Any

import msgspec

from tests.faults.load import Fate, Load, Sent
from tests.faults.witness import Witness

ACCEPTED = {"Echo", "Slow", "Flaky", "Big", "Leak", "Block", "Stall"}
"""Messages whose handlers answer sooner or later."""
FAILING = {"Raise", "Nonsense", "Exit", "Hang", "Stubborn"}
"""Messages that get a CALLERROR and are kept as dead letters."""
_MARKS = {"DataTransferResponse": "status", "CallError": "errorCode"}
EXPIRED = {"expired", "rejected"}
"""The broker's reasons for a dead letter whose time was up: the message expired in its queue, or a
worker rejected it because it had expired when it came."""
LISTED = 5
"""How many examples of a violation are named."""


class Result(msgspec.Struct):
    """One row of the table."""

    fault: str
    requests: int = 0
    """Accepted by the broker."""
    answered: int = 0
    absorbed: int = 0
    """Further answers to a request: it was delivered again, and the stored answer was sent again.
    A requester drops them by the correlation id."""
    reran: int = 0
    """How many of these another run of the handler made: the first worker's memory died with it."""
    dead: int = 0
    """Requests in the dead-letter queue."""
    expired: int = 0
    """Requests that ended because their deadline had passed."""
    lost: int = 0
    recovery: float | None = None
    """Seconds."""
    violations: list[str] = []
    notes: list[str] = []

    @property
    def holds(self) -> bool:
        return not self.violations


class Checker:
    """Compares the books of load and witness, and notes every promise that was broken."""

    def __init__(
        self,
        fault: str,
        load: Load,
        witness: Witness,
        *,
        may_rerun: bool,
        may_expire: bool,
        may_move: bool,
        may_wear_out: bool,
    ) -> None:
        """`may_rerun`, `may_expire`, `may_move`, `may_wear_out`: see `Fault`."""
        self._load = load
        self._witness = witness
        self._may_rerun = may_rerun
        self._may_expire = may_expire
        self._may_move = may_move
        self._may_wear_out = may_wear_out
        self.result = Result(fault)

    def check(self, left: dict[str, int]) -> Result:
        """The verdict. `left`: how many messages remain in each queue."""
        result = self.result
        load = self._load
        accepted = load.accepted
        result.requests = len(accepted)
        if not accepted:
            result.violations.append("the load never ran")
        for sent in accepted:
            self._judge(sent)
        lost = load.unended
        result.lost = len(lost)
        self._must_be_empty("lost", [f"{sent.number} ({sent.message})" for sent in lost])
        if result.expired and not self._may_expire:
            result.violations.append(f"{result.expired} expired, with time enough")
        self._must_be_empty(
            "acknowledged before a confirm",
            [early for early in self._witness.early if self._waits(early)],
        )
        self._must_be_empty("foreign replies", load.foreign)
        self._must_be_empty(
            "left in queues", [f"{queue}: {count}" for queue, count in left.items() if count]
        )
        return result

    def _waits(self, correlation_id: str) -> bool:
        """Whether somebody waits for the answer: not if the request's `reply_to` is forbidden."""
        sent = self._load.find(correlation_id)
        return sent is None or sent.answerable

    def _must_be_empty(self, what: str, found: list[str]) -> None:
        if found:
            more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
            self.result.violations.append(f"{what}: {', '.join(found[:LISTED])}{more}")

    def _judge(self, sent: Sent) -> None:
        result = self.result
        result.answered += bool(sent.answers)
        result.dead += bool(sent.dead)
        result.expired += self._has_expired(sent)
        if sent.message:
            self._judge_ends(sent)
        if len(sent.answers) > 1:
            self._judge_repeated(sent)

    def _has_expired(self, sent: Sent) -> bool:
        """Whether a request ended by its deadline.

        It expires in its own queue or in the reply queue, or a worker acknowledges it without an
        answer.
        """
        in_queue = sent.expired or any(letter.reason in EXPIRED for letter in sent.dead)
        return not sent.answers and bool(
            in_queue or self._load.correlation_id(sent.number) in self._load.late
        )

    def _judge_ends(self, sent: Sent) -> None:
        """Each answer must be the one that its message gets, and the only end of the request."""
        for answer in sent.answers:
            wrong = _wrong(sent, answer.kind, answer.body)
            if wrong:
                self.result.violations.append(f"request {sent.number} ({sent.message}): {wrong}")
        dead = [letter.reason for letter in sent.dead]
        if self._may_wear_out:
            dead = [reason for reason in dead if reason != "delivery_limit"]
        if self._may_expire and self._witness.lost[self._load.correlation_id(sent.number)]:
            # Its answer went out, and its time was over before it came again.
            dead = [reason for reason in dead if reason not in EXPIRED]
        if sent.message in ACCEPTED and sent.answers and dead:
            reasons = ", ".join(dead)
            self.result.violations.append(
                f"request {sent.number} ({sent.message}): answered and dead-lettered: {reasons}"
            )

    def _judge_repeated(self, sent: Sent) -> None:
        result = self.result
        further = len(sent.answers) - 1
        result.absorbed += further
        runs = len({answer.body for answer in sent.answers}) - 1
        result.reran += runs
        if runs and not self._may_rerun:
            result.violations.append(
                f"request {sent.number} ({sent.message}): its handler ran again"
            )
        name = self._load.correlation_id(sent.number)
        redelivered = self._witness.redeliveries[name]
        if self._may_move:
            redelivered = self._witness.deliveries[name] - 1
        if further > redelivered:
            result.violations.append(
                f"request {sent.number} ({sent.message}): "
                f"{further + 1} answers, and {redelivered} redeliveries"
            )


def _wrong(sent: Sent, kind: str, body: bytes) -> str:
    """What is wrong with an answer; an empty string if nothing is."""
    answer: dict[str, Any] = msgspec.json.decode(body)
    if sent.message in ACCEPTED:
        if kind != "DataTransferResponse" or answer.get("status") != "Accepted":
            return f"{kind} {body[:200]!r}"
        if answer["data"]["number"] != sent.number:
            return f"the answer to number {answer['data']['number']}"
    if sent.message == "Fuzz" and (set(answer) & {"status", "errorCode"}) != {_MARKS.get(kind)}:
        return f"{kind} {body[:200]!r}"
    if sent.message in FAILING and (kind != "CallError" or "secret" in str(answer)):
        return f"{kind} {body[:200]!r}"
    return ""


def fates(load: Load) -> Counter[str]:
    """How many requests the broker did not accept, by what it did with them."""
    return Counter(sent.fate.value for sent in load.sent.values() if sent.fate is not Fate.ACCEPTED)
