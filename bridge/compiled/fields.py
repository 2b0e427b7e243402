"""Checks that the compiled modules read the right bytes.

They read the fields of the values that every message passes through (:data:`.views.VIEWS`) where
these lie in memory, as the interpreter does once it has specialised. CPython decides where that is:
the fields of a :class:`msgspec.Struct` are slots, and slots lie in the order of their names. A
module that was compiled must not run if another CPython or msgspec lays them out differently;
:mod:`bridge.compiled.switch` then runs its source.
"""


def check(structs: tuple[type, ...]) -> None:
    """Does nothing: plain Python finds a field wherever it lies.

    In a compiled module ``fields.pxd`` stands in its place, and raises ImportError for a Struct
    whose fields do not lie where its view says.
    """
