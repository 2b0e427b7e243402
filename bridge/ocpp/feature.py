"""DataTransfer as a feature of a profile: which types an implementation needs to speak it."""

from typing import Protocol

from msgspec import Struct

from bridge.ocpp.data_transfer import DataTransferRequest, DataTransferResponse

FEATURE_NAME = "DataTransfer"
"""The action of the CALL."""


class Feature(Protocol):
    """One action of OCPP and the types of its two messages."""

    @property
    def feature_name(self) -> str: ...

    @property
    def request_type(self) -> type[Struct]: ...

    @property
    def response_type(self) -> type[Struct]: ...


class DataTransferFeature(Struct, frozen=True):
    """The feature of this package; the same in every version of OCPP."""

    feature_name: str = FEATURE_NAME
    request_type: type[DataTransferRequest] = DataTransferRequest
    response_type: type[DataTransferResponse] = DataTransferResponse


class Profile(Struct, frozen=True):
    """A named group of features."""

    name: str
    features: tuple[Feature, ...]

    def feature(self, name: str) -> Feature | None:
        """The feature of that name, None if the profile has none."""
        return next((feature for feature in self.features if feature.feature_name == name), None)


PROFILE = Profile("data", (DataTransferFeature(),))
"""The profile that holds DataTransfer alone."""
