"""That the compiled modules read the right bytes.

They read the fields of the values which every message passes through (``transport.pxd``, ``request.pxd``, …) where they lie in memory,
as the interpreter does once it has specialised. Where that is, CPython decides: fields of a :class:`msgspec.Struct` are slots, and
slots lie in the order of their names, those of a base class first. Should another CPython or msgspec do otherwise, a module that was
compiled must not be used.
"""


def check(structs: tuple[type, ...]) -> None:
    """Compiled (see ``fields.pxd``), raises ImportError for a Struct that is laid out in another way. As Python, nothing depends on it."""
