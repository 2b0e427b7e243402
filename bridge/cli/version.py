"""``dtbridge --version``: what runs, for a report of a fault."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Final

import msgspec

from bridge.compiled.switch import PURE, running

_DISTRIBUTION: Final = "datatransfer-bridge"


def version() -> str:
    """The version of this installation; ``unknown`` where it is not installed."""
    try:
        return version_of(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def is_compiled() -> bool:
    """Whether the whole hot path runs compiled. Ask when its modules are imported."""
    forms = running()
    return bool(forms) and all(form.form == "compiled" for form in forms.values())


def versions() -> str:
    """The versions that matter, and the form in which the hot path runs, in a line."""
    return (
        f"dtbridge {version()} ({_form()}), {platform.python_implementation()} "
        f"{platform.python_version()}, msgspec {msgspec.__version__}"
    )


def _form() -> str:
    if PURE:
        return "plain Python: DTBRIDGE_PURE is set"
    if is_compiled():
        return "compiled"
    forms = running()
    if not forms:
        return "plain Python: nothing is compiled for this Python"
    plain = [name for name, form in forms.items() if form.form == "source"]
    return f"{len(forms) - len(plain)} of {len(forms)} modules compiled: see dtbridge doctor"
