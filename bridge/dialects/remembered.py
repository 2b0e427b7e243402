"""What is worked out once for each text that comes again and again."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")


class Remembered(dict[str, Value], Generic[Value]):
    """What `work_out` returns for a text (a station's id, a reply queue), worked out once."""

    KEPT: Final = 4_096
    """Answers kept, at most 500 bytes each. The texts come from outside, so there must be a bound.
    When it is reached, all are forgotten; those in use are soon back."""

    def __init__(self, work_out: Callable[..., Value]) -> None:
        super().__init__()
        self.work_out = work_out

    def __missing__(self, text: str) -> Value:
        if len(self) >= self.KEPT:
            self.clear()
        self[text] = answer = self.work_out(text)
        return answer
