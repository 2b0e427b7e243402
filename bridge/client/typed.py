"""Answers whose data is of a type: as a handler's data is read, so is that of an answer."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from bridge.client.errors import UnexpectedAnswer
from bridge.ocpp import DataTransferResponse, DataTransferStatus, StatusInfo
from bridge.routing.data import DataReader, data_reader, type_name
from bridge.routing.errors import HandlerError, InvalidData

Data = TypeVar("Data")


class TypedResponse(Generic[Data]):
    """The answer to a request that was asked with ``answer=``, its data of that type."""

    __slots__ = ("_data", "response")

    def __init__(self, response: DataTransferResponse, data: Data | UnsetType = UNSET) -> None:
        """`data`: of an answer that accepts; UNSET: it does not."""
        self.response = response
        """The answer as it came, its data plain JSON values."""
        self._data = data

    @property
    def status(self) -> DataTransferStatus:
        """Whether the request was accepted, and if not, why."""
        return self.response.status

    @property
    def status_info(self) -> StatusInfo | None:
        """More about the status; None: there is nothing more."""
        return self.response.status_info

    @property
    def data(self) -> Data:
        """The data, if the status is Accepted.

        Raises :class:`~bridge.client.errors.UnexpectedAnswer` if it is another.
        """
        if isinstance(self._data, UnsetType):
            info = self.status_info
            why = "" if info is None else f" ({info.reason_code!r:.30})"
            raise UnexpectedAnswer(
                f"the answer is {self.status}{why}, so its data is not what was asked for: look at"
                " its status first",
                self.response,
            )
        return self._data

    def __repr__(self) -> str:
        data = "" if isinstance(self._data, UnsetType) else f" {self._data!r}"
        return f"<TypedResponse {self.status}{data}>"


class _Payload(msgspec.Struct):
    data: Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Payload).decode

Reader = Callable[[DataTransferResponse, bytes], TypedResponse[Any]]
"""An answer and its payload → the answer with its data read."""


def reader_of(answer: Any) -> Reader:
    """What reads answers whose data is of this type. Raises TypeError if nothing can."""
    read_data = _data_reader(answer)

    def read(response: DataTransferResponse, payload: bytes) -> TypedResponse[Any]:
        if response.status is not DataTransferStatus.ACCEPTED:
            return TypedResponse(response)
        try:
            return TypedResponse(response, read_data(_decode(payload).data))
        except InvalidData as fault:
            text = f"the answer's data is no {type_name(answer)}: {fault}"
            raise UnexpectedAnswer(text, response) from fault

    return read


def _data_reader(answer: Any) -> DataReader:
    try:
        hash(answer)
    except TypeError:
        return _new_data_reader(answer)
    return _kept_data_reader(answer)


def _new_data_reader(answer: Any) -> DataReader:
    try:
        return data_reader(answer)
    except HandlerError as error:
        why = str(error).partition(": ")[2]
        raise TypeError(f"no answer can be read as {type_name(answer)}: {why}") from error


_kept_data_reader = lru_cache(maxsize=256)(_new_data_reader)
