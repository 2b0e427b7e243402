"""What a vendor pack is made of, for the packs here and for one of your own.

An interface says what stations ask, a method for each message, and :func:`make_router` makes a
Router of what implements it. What the CSMS asks stations is a :class:`Command` for each message.
Both check what they send as strictly as what they are given.

Types are those that msgspec decodes. One that is no JSON has ``from_text(text)``, a class method
that raises ValueError for any other text; to be sent, it has the method ``to_text()``.

>>> class CSMS(Protocol):
...     @message("GetTariff")
...     def get_tariff(self, call: Call, data: TariffQuery, /) -> Answer[Tariff]: ...
>>> def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
...     return make_router("com.acme", CSMS, csms, **options)
>>> show_text = Command("com.acme", "ShowText", Text)
"""

import enum
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterator
from copy import copy
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypedDict, TypeVar, Unpack, cast

import msgspec
from msgspec import UNSET

from bridge import (
    Call,
    DataTransferRequest,
    HandlerError,
    Lenient,
    Rejected,
    RetryPolicy,
    Router,
)
from bridge.routing.station_message import ToStation

if TYPE_CHECKING:
    from bridge import Client, TypedResponse

Data = TypeVar("Data")
Result = TypeVar("Result")
Method = TypeVar("Method", bound=Callable[..., Any])

Answer: TypeAlias = Result | Awaitable[Result]
"""What a method of an interface answers with: an ``async def``, or a plain ``def``, which runs in a
thread as any handler does."""


class Certainty(enum.StrEnum):
    """How well the messages of a pack are known."""

    SPECIFIED = "specified"
    """A public specification says it."""
    DOCUMENTED = "documented"
    """The vendor says it in public."""
    OBSERVED = "observed"
    """It was seen in logs, in reports or in the code of others. What the vendor says of it, if
    anything, was not to be had."""


class RouterOptions(TypedDict, total=False):
    """The settings of a :class:`~bridge.Router`."""

    timeout: float
    retry: RetryPolicy | None
    prefetch: int | None
    concurrency: int | None
    threads: int
    rate: float | None
    partitions: int
    ordered: bool


class Message(msgspec.Struct, frozen=True):
    """A message, with the types of its data and of its answer's. NoneType: there is no data."""

    message_id: str
    """``""``: it has none."""
    data: Any
    answer: Any
    """Any: not known."""
    name: str
    """Of the method or command that it is, in the pack."""
    description: str = ""
    """What it is for."""


# ---- what stations ask ----

_MESSAGE_ID: Final = "__message_id__"


def message(message_id: str = "") -> Callable[[Method], Method]:
    """Say which message a method of an interface answers; ``""``: requests without a messageId."""

    def mark(method: Method) -> Method:
        setattr(method, _MESSAGE_ID, message_id)
        return method

    return mark


def messages_of(interface: Any) -> Iterator[Message]:
    """The messages that an interface answers, in its order."""
    for name, method in vars(interface).items():
        message_id = getattr(method, _MESSAGE_ID, None)
        if message_id is None:
            continue
        hints = typing.get_type_hints(method, include_extras=True)
        _, _, *data = inspect.signature(method).parameters
        answer = next(
            typing.get_args(option)[0]
            for option in typing.get_args(hints["return"])
            if typing.get_origin(option) is Awaitable
        )
        kind = hints[data[0]] if data else NoneType
        yield Message(message_id, kind, answer, name, inspect.getdoc(method) or "")


def make_router(
    vendor_id: str, interface: Any, csms: Any, **options: Unpack[RouterOptions]
) -> Router:
    """A router that has each message of `interface` answered by the method of `csms`.

    Raises :class:`~bridge.HandlerError` for a method that is missing, or cannot be called with a
    request, and for options that no router can have.
    """
    if isinstance(csms, type):
        raise HandlerError(f"give an object, not its class: router({csms.__name__}())")
    router = Router(vendor_id, **options)
    for each in messages_of(interface):
        what = each.message_id or "requests without messageId"
        method = getattr(csms, each.name, None)
        inherited = getattr(type(csms), each.name, None) is getattr(interface, each.name)
        if inherited or not callable(method):
            raise HandlerError(
                f"{type(csms).__qualname__} has no method {each.name}, which answers {what} of"
                f" vendor {vendor_id!r}"
            )
        router.on(each.message_id)(_handler(each, method, type(csms)))
    return router


def _handler(each: Message, method: Callable[..., Any], owner: type) -> Callable[..., Any]:
    """A method as a handler, whose types are those of the interface, and its answer checked."""
    name = f"{owner.__qualname__}.{each.name}"
    from_text = getattr(each.data, "from_text", None)
    parameters = {"call": Call, "data": each.data if from_text is None else str}
    if each.data is NoneType:
        del parameters["data"]
    try:
        inspect.signature(method).bind(*parameters)
    except TypeError as error:
        raise HandlerError(f"{name} must be a method ({', '.join(parameters)}): {error}") from error
    read = _as_it_is if from_text is None else partial(_read, from_text)
    check = partial(checked, each.answer, f"{name} gives an answer, and {each.message_id}")

    async def awaited(answer: Awaitable[Any]) -> Any:
        return check(await answer)

    async def waiting(call: Call, *data: Any) -> Any:
        return await awaited(method(call, *map(read, data)))

    def plain(call: Call, *data: Any) -> Any:
        answer = method(call, *map(read, data))
        return awaited(answer) if inspect.isawaitable(answer) else check(answer)

    handler: Any = waiting if inspect.iscoroutinefunction(method) else plain
    handler.__module__, handler.__qualname__ = owner.__module__, name
    handler.__doc__ = inspect.getdoc(method) or each.description
    handler.__annotations__ = parameters | {"return": each.answer}
    handler.__signature__ = inspect.Signature(
        [
            inspect.Parameter(parameter, inspect.Parameter.POSITIONAL_ONLY, annotation=kind)
            for parameter, kind in parameters.items()
        ]
    )
    return cast("Callable[..., Any]", handler)


def _as_it_is(data: Any) -> Any:
    return data


def _read(from_text: Callable[[str], Any], data: str) -> Any:
    try:
        return from_text(data)
    except (ValueError, RecursionError) as fault:
        raise Rejected("InvalidData", f"data: {fault}") from fault


def checked(kind: Any, what: str, value: Data) -> Data:
    """The value, if what it is as JSON is of the type.

    `what`: the message, for errors. Raises ValueError with the path of the fault.
    """
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except msgspec.ValidationError as fault:
        raise ValueError(f"{what} does not allow it: {fault}") from fault
    return value


# ---- what the CSMS asks stations ----


class SendOptions(TypedDict, total=False):
    """As of :meth:`Client.send_to_station <bridge.Client.send_to_station>`."""

    timeout: float | None
    message_id: str | None
    ocpp_version: str | None


class _Question(ToStation, Generic[Result]):
    def __init__(
        self, vendor_id: str, message_id: str, data: Any, answer: Any, *, as_text: bool = False
    ) -> None:
        super().__init__(
            vendor_id,
            message_id,
            data=str if as_text else _travelling(data),
            answer=_travelling(answer),
        )
        self.data_type = data
        self.answer_type = answer

    async def _send(
        self,
        client: "Client",
        station_id: str,
        request: DataTransferRequest,
        options: SendOptions,
    ) -> "TypedResponse[Result]":
        from_text = getattr(self.answer_type, "from_text", None)
        lenient: Any = Lenient
        answer = lenient[self.answer_type if from_text is None else str]
        response = await client.send_to_station(station_id, request, answer=answer, **options)
        if from_text is not None and response.status == "Accepted":
            response = _with_text(response, from_text)
        return cast("TypedResponse[Result]", response)


def _travelling(kind: Any) -> Any:
    """What a type is on its way: text, if it has a form of its own; None: there is no data."""
    if kind is NoneType:
        return None
    return str if hasattr(kind, "from_text") or hasattr(kind, "to_text") else kind


def _with_text(response: "TypedResponse[str]", from_text: Callable[[str], Any]) -> Any:
    from bridge import TypedResponse, UnexpectedAnswer

    try:
        return TypedResponse(response.response, from_text(response.data))
    except (ValueError, RecursionError) as fault:
        raise UnexpectedAnswer(f"the answer's data: {fault}", response.response) from fault


class Command(_Question[Result], Generic[Data, Result]):
    """A message that the CSMS sends to a station.

    >>> response = await show_text(client, "CP001", Text("Hello"), timeout=10)
    """

    @typing.overload
    def __init__(
        self: "Command[Data, Any]",
        vendor_id: str,
        message_id: str,
        data: type[Data],
        *,
        as_text: bool = False,
    ) -> None: ...

    @typing.overload
    def __init__(
        self,
        vendor_id: str,
        message_id: str,
        data: type[Data],
        answer: type[Result],
        *,
        as_text: bool = False,
    ) -> None: ...

    def __init__(
        self,
        vendor_id: str,
        message_id: str,
        data: Any,
        answer: Any = Any,
        *,
        as_text: bool = False,
    ) -> None:
        """`data`: its type. `answer`: that of the answer's data; Any: it is not known.

        `as_text`: JSON goes as text inside a string in every version, not in 1.6 alone.
        """
        super().__init__(vendor_id, message_id, data, answer, as_text=as_text)
        self._as_text = as_text

    def for_vendor(self, vendor_id: str) -> "Command[Data, Result]":
        """The same message of another vendor."""
        other = copy(self)
        other.vendor_id = vendor_id
        return other

    def request(self, data: Data) -> DataTransferRequest:
        """The request, for whoever sends it in another way.

        Raises ValueError for data that the message does not allow, with the path of the fault.
        """
        checked(self.data_type, self.message_id or "the request", data)
        sent: Any = data
        if to_text := getattr(data, "to_text", None):
            sent = to_text()
        elif self._as_text and not isinstance(data, str):
            sent = msgspec.json.encode(data).decode()
        return DataTransferRequest(self.vendor_id, self.message_id, sent)

    async def __call__(
        self, client: "Client", station_id: str, data: Data, **options: Unpack[SendOptions]
    ) -> "TypedResponse[Result]":
        """Send it, and await the answer.

        Raises what :meth:`Client.send_to_station <bridge.Client.send_to_station>` and
        :meth:`request` do.
        """
        return await self._send(client, station_id, self.request(data), options)


class BareCommand(_Question[Result]):
    """A message that the CSMS sends to a station, without data or always with the same.

    >>> response = await clear_display(client, "CP001")
    """

    @typing.overload
    def __init__(self: "BareCommand[Any]", vendor_id: str, message_id: str) -> None: ...

    @typing.overload
    def __init__(
        self, vendor_id: str, message_id: str, answer: type[Result], *, sent: Any = UNSET
    ) -> None: ...

    def __init__(
        self, vendor_id: str, message_id: str, answer: Any = Any, *, sent: Any = UNSET
    ) -> None:
        """`answer`: the type of the answer's data; Any: it is not known. `sent`: the data."""
        super().__init__(vendor_id, message_id, NoneType, answer)
        self._sent = sent
        if sent is not UNSET:
            self.data = type(sent)

    def request(self) -> DataTransferRequest:
        """The request, for whoever sends it in another way."""
        return DataTransferRequest(self.vendor_id, self.message_id, self._sent)

    async def __call__(
        self, client: "Client", station_id: str, **options: Unpack[SendOptions]
    ) -> "TypedResponse[Result]":
        """Send it, and await the answer, as :class:`Command` does."""
        return await self._send(client, station_id, self.request(), options)
