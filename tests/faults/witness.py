"""What a bystander on the wire sees: deliveries, publishings, confirms and acknowledgements.

The proxy shows each frame to the witness before it passes it on. So a confirm is on record here
before the worker can have it. An acknowledgement that comes before the confirm of its request's
reply is a broken promise, then, and no race of our own making.

Frames are read with pamqp, not with the bridge's codec.
"""

import time
from collections import Counter
from typing import Any

import msgspec
import pamqp.base
import pamqp.body
import pamqp.commands
import pamqp.frame
import pamqp.header

from bridge.dialects.headers import DEADLINE

Basic = pamqp.commands.Basic
METHOD_FRAME, HEADER_FRAME = 1, 2
"""Frame types. The others tell nothing here: bodies, heartbeats, the protocol header."""


class Seen(msgspec.Struct):
    """A delivery that is not settled yet."""

    correlation_id: str | None = None
    confirms_before: int = 0
    """Publishings for this request that were confirmed before this delivery: they belong to earlier
    deliveries."""
    deadline: float | None = None
    """Unix time in seconds."""
    answerable: bool = False
    """Whether somebody waits for its answer."""


class _Channel:
    """One channel of one connection."""

    def __init__(self) -> None:
        self.unsettled: dict[int, Seen] = {}
        self.settled_at_once: set[str] = set()
        """Consumers whose deliveries nobody acknowledges (`no_ack`)."""
        self.publishings: dict[int, str | None] = {}
        """Sequence number → correlation id, for publishings without a confirm."""
        self.published = 0
        self.confirming = False
        self.open_delivery: Seen | None = None
        self.open_publishing = 0


class Witness:
    """The record of one run, over all connections of all workers."""

    def __init__(self) -> None:
        self._channels: dict[tuple[int, int], _Channel] = {}
        self.deliveries: Counter[str] = Counter()
        """How often each request was delivered, by correlation id, as in the next three."""
        self.redeliveries: Counter[str] = Counter()
        """How many of these the broker marked as redelivered."""
        self.lost: Counter[str] = Counter()
        """How often it was unsettled on a connection or channel that ended."""
        self.confirmed: Counter[str] = Counter()
        """Confirmed publishings of workers for a request: its answer, or a copy of it."""
        self.refused = 0
        """Publishings that the broker refused (Basic.Nack)."""
        self.acknowledged = 0
        self.late: set[str] = set()
        """Correlation ids of requests acknowledged without an answer after their deadline, when
        nobody waits any more."""
        self.early: list[str] = []
        """Correlation ids of requests acknowledged before anything was confirmed for them: each is
        a broken promise."""

    @property
    def unsettled(self) -> int:
        """Deliveries on open channels that no worker has settled."""
        return sum(len(channel.unsettled) for channel in self._channels.values())

    def gone(self, connection: int) -> None:
        """A connection has ended; what was unsettled on it, the broker delivers again."""
        for key in [key for key in self._channels if key[0] == connection]:
            self._ended(key)

    def _ended(self, key: tuple[int, int]) -> None:
        seen = self._channels.pop(key).unsettled.values()
        self.lost.update(each.correlation_id for each in seen if each.correlation_id)

    def saw(self, connection: int, frame: bytes, *, to_broker: bool) -> None:
        """Note a whole frame that is about to be passed on."""
        if frame[0] not in (METHOD_FRAME, HEADER_FRAME):
            return
        _, number, value = pamqp.frame.unmarshal(frame)
        channel = self._channels.get((connection, number))
        if channel is None or isinstance(value, pamqp.commands.Channel.Open):
            # The number of a channel that was closed is used again, and its publishings count anew.
            channel = self._channels[connection, number] = _Channel()
        if isinstance(value, pamqp.commands.Channel.CloseOk):
            self._ended((connection, number))
            return
        if to_broker:
            self._from_worker(channel, value)
        else:
            self._from_broker(channel, value)

    def _from_broker(self, channel: _Channel, value: Any) -> None:
        match value:
            case Basic.Deliver():
                channel.open_delivery = seen = Seen()
                if value.consumer_tag not in channel.settled_at_once:
                    channel.unsettled[value.delivery_tag or 0] = seen
                channel.open_publishing = 1 if value.redelivered else 0
            case pamqp.header.ContentHeader() if channel.open_delivery is not None:
                self._delivered(
                    channel.open_delivery,
                    value.properties,
                    redelivered=bool(channel.open_publishing),
                )
                channel.open_delivery = None
            case Basic.Ack() | Basic.Nack():
                self._confirmed(
                    channel, value.delivery_tag, value.multiple, isinstance(value, Basic.Ack)
                )

    def _delivered(self, seen: Seen, properties: Any, *, redelivered: bool) -> None:
        headers = properties.headers or {}
        deadline = headers.get(DEADLINE)
        seen.correlation_id = correlation_id = properties.correlation_id
        seen.deadline = deadline / 1000 if isinstance(deadline, int) else None
        if deadline is None and (properties.expiration or "").isdecimal():
            seen.deadline = time.time() + int(properties.expiration) / 1000
        seen.answerable = bool(properties.reply_to and correlation_id)
        if correlation_id:
            seen.confirms_before = self.confirmed[correlation_id]
            self.deliveries[correlation_id] += 1
            self.redeliveries[correlation_id] += redelivered

    def _confirmed(self, channel: _Channel, tag: int, multiple: bool, ok: bool) -> None:
        tags = [number for number in channel.publishings if number <= tag] if multiple else [tag]
        for number in tags:
            correlation_id = channel.publishings.pop(number, None)
            if not ok:
                self.refused += 1
            elif correlation_id:
                self.confirmed[correlation_id] += 1

    def _from_worker(self, channel: _Channel, value: Any) -> None:
        match value:
            case pamqp.commands.Confirm.Select():
                channel.confirming = True
            case Basic.Consume() if value.no_ack:
                channel.settled_at_once.add(value.consumer_tag)
            case Basic.Publish():
                channel.published += 1
                channel.open_publishing = channel.published
            case pamqp.header.ContentHeader() if channel.open_publishing:
                if channel.confirming:
                    channel.publishings[channel.open_publishing] = value.properties.correlation_id
                channel.open_publishing = 0
            case Basic.Ack():
                self._acknowledged(channel, value.delivery_tag, value.multiple)
            case Basic.Nack():
                for tag in self._tags(channel, value.delivery_tag, value.multiple):
                    channel.unsettled.pop(tag, None)
            case Basic.Reject():
                channel.unsettled.pop(value.delivery_tag or 0, None)

    @staticmethod
    def _tags(channel: _Channel, tag: int, multiple: bool) -> list[int]:
        return [number for number in channel.unsettled if number <= tag] if multiple else [tag]

    def _acknowledged(self, channel: _Channel, tag: int, multiple: bool) -> None:
        for number in self._tags(channel, tag, multiple):
            seen = channel.unsettled.pop(number, None)
            if seen is None:
                continue
            self.acknowledged += 1
            correlation_id = seen.correlation_id
            if (
                not seen.answerable
                or not correlation_id
                or self.confirmed[correlation_id] > seen.confirms_before
            ):
                continue
            if seen.deadline is not None and seen.deadline <= time.time():
                self.late.add(correlation_id)
            else:
                self.early.append(correlation_id)
