"""One station's connection as OCPP-J sees it: messages in, decisions out. No socket, clock or task.

A gateway in any language has to make the decisions in this file; the waiting is in
``connection.py``.

* :meth:`Conversation.receive` takes a message from the station and says what to do: send a frame,
  forward a DataTransfer to the bridge, settle the CALL that the station was sent, or nothing.
* :meth:`Conversation.reply` turns the bridge's reply into the frame that answers a forwarded CALL.
* :meth:`Conversation.call` begins a CALL to the station. There is one at a time.
"""

import datetime as dt
import enum
import secrets
from typing import Final

import msgspec
from msgspec import Raw, Struct

from bridge.gateway.websocket.actions import KNOWN_ACTIONS
from bridge.gateway.websocket.boot import Boot, BootAnswer, BootHook, checked
from bridge.gateway.websocket.local_answers import Fact, local_answer
from bridge.ocpp import (
    FEATURE_NAME,
    CallError,
    CallErrorFrame,
    CallFrame,
    CallResultErrorFrame,
    CallResultFrame,
    ErrorCode,
    Frame,
    FrameError,
    OcppVersion,
    SendFrame,
    call_error_frame,
    decode_call_error,
    decode_frame,
    decode_response,
    encode_call_error,
    encode_frame,
)
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.request.outcome import COULD_NOT_PROCESS, Kind, Reply, call_error, describe_error
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.gateway")

_CALL, _CALL_RESULT = 2, 3
"""Message types."""

CALLS_AT_ONCE: Final = 5
"""CALLs of one station in hand: the one that OCPP-J allows, and four more for CALLs whose answer
the station no longer awaits. A station that sends more does not await answers, and gets a
CALLERROR."""


# ---- decisions ----


class Answer(Struct, frozen=True):
    """Send this frame: the CALL is answered without the bridge."""

    frame: bytes
    action: str = ""
    """The action of the CALL. Empty if the frame was not a readable CALL."""
    error: str = ""
    """The error code of a CALLERROR and what is wrong. Empty for a CALLRESULT."""
    facts: dict[str, Fact] = {}
    """What the station said about itself, for the log."""


class Forward(Struct, frozen=True):
    """Ask the bridge, then answer the station with :meth:`Conversation.reply`."""

    message_id: str
    payload: bytes


class Settled(Struct, frozen=True):
    """The station has answered the gateway's CALL."""

    reply: Reply
    complaint: bytes = b""
    """The CALLRESULTERROR to send to the station, whose CALLRESULT is invalid. Empty: none."""


class Ignored(enum.StrEnum):
    """There is nothing to do, and this is why."""

    LATE = "an answer that nobody waits for"
    BROKEN = "a broken frame that OCPP-J does not answer"
    SEND = "a message that is never answered"
    CALL_RESULT_ERROR = "the station cannot read what it was answered"
    REPEATED = "a CALL sent again while it is handled"


Decision = Answer | Forward | Settled | Ignored


class Conversation:
    """What is outstanding on one connection, and what must come next."""

    def __init__(
        self,
        version: OcppVersion,
        *,
        heartbeat: int,
        max_payload: int,
        station_id: str = "",
        on_boot: BootHook | None = None,
    ) -> None:
        """`heartbeat`: seconds between Heartbeats, told to a station that boots.

        `max_payload`: bytes of the longest payload that a station is sent. `on_boot`: how
        `station_id` is answered when it boots; None: it is accepted.
        """
        self._station_id = station_id
        self._on_boot = on_boot
        self.version = version
        self._heartbeat = heartbeat
        self._max_payload = max_payload
        self._handled: dict[str, bytes] = {}
        """The payloads of the CALLs in hand, by message id."""
        self._asked: str | None = None
        self._name = ""
        """How the message ids of our CALLs begin: nobody else's do, so no answer is mistaken."""
        self._number = 0

    # ---- what the station sends ----

    def receive(self, message: str | bytes, now: dt.datetime) -> Decision:
        """What to do about one WebSocket message. Never raises, whatever the message holds."""
        try:
            frame = decode_frame(message, self.version)
        except FrameError as error:
            return self._on_broken(error)
        match frame:
            case CallFrame():
                return self._on_call(frame, now)
            case CallResultFrame():
                return self._on_answer(
                    frame.message_id, Reply(bytes(frame.payload)), self._fault_of(frame)
                )
            case CallErrorFrame():
                told = CallError(frame.error_code, frame.error_description, frame.error_details)
                body = encode_call_error(told, self.version, own_codes=True)
                return self._on_answer(frame.message_id, Reply(body, Kind.CALL_ERROR))
            case SendFrame():
                return Ignored.SEND
            case CallResultErrorFrame():
                return Ignored.CALL_RESULT_ERROR

    def _on_broken(self, error: FrameError) -> Decision:
        if error.message_id == self._asked and error.message_type != _CALL:
            # Whatever else is wrong with it, it answers our CALL: nobody else knows the id.
            fault = CallError(
                ErrorCode.FORMAT_VIOLATION, f"the station's answer is broken: {error.description}"
            )
            of_result = error.message_type == _CALL_RESULT
            return self._on_answer(
                error.message_id,
                call_error(fault, self.version),
                CallError(error.code, error.description) if of_result else None,
            )
        if error.wants_answer(self.version):
            return Answer(encode_frame(error.answer(self.version)), error=str(error))
        return Ignored.BROKEN

    def _fault_of(self, result: CallResultFrame) -> CallError | None:
        """What is wrong with the response to our CALL, if the version wants stations to be told."""
        if self.version is not OcppVersion.V2_1 or result.message_id != self._asked:
            return None
        try:
            decode_response(result.payload, self.version)
        except CallError as error:
            return error
        return None

    def _on_call(self, call: CallFrame, now: dt.datetime) -> Decision:
        if call.action == FEATURE_NAME:
            return self._on_data_transfer(call)
        try:
            answer = local_answer(
                call.action,
                call.payload,
                self.version,
                now=now,
                heartbeat=self._heartbeat,
                on_boot=None if self._on_boot is None else self._ask_hook,
            )
        except CallError as error:
            return self._refuse(call, error)
        if answer is not None:
            frame = CallResultFrame(call.message_id, Raw(answer.payload))
            return Answer(encode_frame(frame), call.action, facts=answer.facts)
        if call.action in KNOWN_ACTIONS[self.version]:
            return self._refuse(
                call, CallError(ErrorCode.NOT_SUPPORTED, f"{call.action} is not supported")
            )
        return self._refuse(
            call, CallError(ErrorCode.NOT_IMPLEMENTED, f"{call.action:.60} is not known")
        )

    def _ask_hook(self, payload: bytes) -> BootAnswer:
        """What the hook says. Raises CallError, without a word of what went wrong in it."""
        assert self._on_boot is not None  # noqa: S101 - else it is not asked
        try:
            return checked(self._on_boot(Boot(self._station_id, self.version, payload)))
        except CallError:
            raise
        except BaseException as error:
            log.exception("boot hook failed", station=self._station_id, error=describe_error(error))
            raise CallError(ErrorCode.INTERNAL_ERROR, COULD_NOT_PROCESS) from error

    def _on_data_transfer(self, call: CallFrame) -> Decision:
        payload = bytes(call.payload)
        in_hand = self._handled.get(call.message_id)
        if in_hand is not None:
            # What comes again as it was is a repetition, and one answer serves both: a station that
            # was sent an error would drop the answer. In 2.1 a retry may keep its message id
            # (OCPP-J 2.1 §4.1.4); in other versions another CALL with the id of one that is in
            # hand is an error (OCPP-J 1.6 §4.2.3, OCPP-J 2.0.1 §4.2.3).
            if self.version is OcppVersion.V2_1 or payload == in_hand:
                return Ignored.REPEATED
            return self._refuse(
                call,
                CallError(ErrorCode.RPC_FRAMEWORK_ERROR, "a CALL with this id is being handled"),
            )
        if len(self._handled) >= CALLS_AT_ONCE:
            return self._refuse(
                call,
                CallError(ErrorCode.GENERIC_ERROR, "too many CALLs without awaiting the answers"),
            )
        self._handled[call.message_id] = payload
        return Forward(call.message_id, payload)

    def _refuse(self, call: CallFrame, error: CallError) -> Answer:
        return Answer(
            encode_frame(call_error_frame(call.message_id, error, self.version)),
            call.action,
            str(error),
        )

    def _on_answer(self, message_id: str, reply: Reply, fault: CallError | None = None) -> Decision:
        """`fault`: what is wrong with a CALLRESULT; 2.1 tells the station (OCPP-J 2.1 §4.2.4)."""
        if message_id != self._asked:
            return Ignored.LATE
        self._asked = None
        if fault is None or self.version is not OcppVersion.V2_1:
            return Settled(reply)
        error = call_error_frame(message_id, fault, self.version)
        complaint = CallResultErrorFrame(message_id, error.error_code, error.error_description)
        return Settled(reply, encode_frame(complaint))

    # ---- what the station is sent ----

    def reply(self, message_id: str, reply: Reply) -> bytes:
        """The frame that answers a forwarded CALL.

        Raises ValueError if `reply` cannot be sent; call it again with another reply.
        """
        frame: Frame
        if reply.kind is Kind.CALL_ERROR:
            frame = call_error_frame(message_id, decode_call_error(reply.body), self.version)
        else:
            frame = CallResultFrame(message_id, self._checked(reply.body))
        self._handled.pop(message_id, None)
        return encode_frame(frame)

    def call(self, payload: bytes) -> bytes:
        """The frame of a DataTransfer CALL, with a new message id.

        Call it only when the CALL before it has been answered or given up. Raises CallError if
        `payload` is not JSON or too large.
        """
        try:
            checked = self._checked(payload)
        except ValueError as fault:
            raise CallError(ErrorCode.FORMAT_VIOLATION, f"payload: {fault}") from fault
        if not self._name:
            self._name = secrets.token_hex(8)
        self._number += 1
        self._asked = f"{self._name}-{self._number:x}"
        return encode_frame(CallFrame(self._asked, FEATURE_NAME, checked))

    def give_up(self) -> None:
        """Stop waiting for the answer to the gateway's CALL."""
        self._asked = None

    def _checked(self, payload: bytes) -> Raw:
        """`payload`, if it can be part of a frame: JSON in UTF-8, and not too large.

        Raises ValueError otherwise.
        """
        if len(payload) > self._max_payload:
            raise ValueError(f"{len(payload)} bytes, and at most {self._max_payload} are sent")
        try:
            checked = msgspec.json.decode(payload, type=Raw)
        except DECODE_FAULTS as fault:
            raise ValueError("not valid JSON") from fault
        if not payload.isascii():
            # Raw is checked for syntax, but not for UTF-8. UnicodeDecodeError is a ValueError.
            payload.decode()
        return checked
