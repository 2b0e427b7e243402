"""What a lifespan has made for the handlers of a worker: their state, and where calls find it."""

from typing import TYPE_CHECKING, Any, Final, Generic

if TYPE_CHECKING:
    # Its default has `Call` alone mean `Call[Any]`. At run time there is none before CPython 3.13.
    from typing_extensions import TypeVar

    StateT_co = TypeVar("StateT_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    StateT_co = TypeVar("StateT_co", covariant=True)


class Held(Generic[StateT_co]):
    """Holds a state from the start of its lifespan to its end; before and after that, None.

    A worker makes its handlers before its lifespans have begun: they are given the place.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"<Held {type(self.value).__name__}>"


NO_STATE: Final[Held[Any]] = Held()
"""Of handlers without a lifespan. Nobody sets its value."""
