"""What is wrong with a handler, or with the data that it is given."""


class HandlerError(TypeError):
    """A handler or router that could never work, found when it is registered.

    The message names it and says what to change.
    """


class LifespanError(Exception):
    """A lifespan that failed, so that the worker cannot run. What it raised is the cause."""


class InvalidData(Exception):
    """`data` does not fit the handler's type. The message holds the path of the fault."""
