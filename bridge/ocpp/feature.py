"""DataTransfer as a feature of a profile: the types that an implementation of OCPP needs."""

from typing import Protocol

from msgspec import Struct

from bridge.ocpp.data_transfer import DataTransferRequest, DataTransferResponse

FEATURE_NAME = "DataTransfer"
"""The action of a DataTransfer CALL."""


class Feature(Protocol):
    """One action of OCPP and the types of its two messages."""

    @property
    def feature_name(self) -> str:
        """The action, as a CALL names it."""
        ...

    @property
    def request_type(self) -> type[Struct]:
        """The type of the CALL's payload."""
        ...

    @property
    def response_type(self) -> type[Struct]:
        """The type of the CALLRESULT's payload."""
        ...


class DataTransferFeature(Struct, frozen=True):
    """DataTransfer as a feature. It is the same in every version of OCPP."""

    feature_name: str = FEATURE_NAME
    request_type: type[DataTransferRequest] = DataTransferRequest
    response_type: type[DataTransferResponse] = DataTransferResponse


class Profile(Struct, frozen=True):
    """A named group of features."""

    name: str
    """Free text."""
    features: tuple[Feature, ...]

    def feature(self, name: str) -> Feature | None:
        """The feature whose `feature_name` is `name`, or None if the profile has none."""
        return next((feature for feature in self.features if feature.feature_name == name), None)


PROFILE = Profile("data", (DataTransferFeature(),))
"""A profile that holds DataTransfer alone."""
