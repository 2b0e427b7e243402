"""Where ``dtbridge`` starts: a probe at once, every other command with all that it needs.

To import what the commands need takes half a second of the processor. That is nothing once, and too
much every few seconds.
"""

import os
import sys
from typing import Final

_PAGES: Final = {"--live": "/livez", "--ready": "/readyz"}
_SELDOM: Final = {"DTBRIDGE_ADDRESS", "DTBRIDGE_LIVE", "DTBRIDGE_READY", "DTBRIDGE_TIMEOUT"}


def main() -> None:
    """The console script."""
    if sys.argv[1:2] == ["health"]:
        _probe(sys.argv[2:])
    from bridge.cli.main import main as command

    command()


def _probe(arguments: list[str]) -> None:
    """``dtbridge health [ADDRESS] [--live | --ready]``, and the process ends.

    Returns if there is anything else to it: help, a mistake, what is seldom given.
    """
    flags = [argument for argument in arguments if argument.startswith("-")]
    addresses = [argument for argument in arguments if argument not in flags]
    if not addresses and (given := os.environ.get("DTBRIDGE_HTTP")):
        addresses = [given]
    if (
        len(addresses) != 1
        or len(flags) > 1
        or not set(flags) <= _PAGES.keys()
        or _SELDOM.intersection(os.environ)
    ):
        return
    from bridge.cli.probe import READY, printable, probe

    try:
        verdict = probe(addresses[0], _PAGES[flags[0]] if flags else READY)
    except ValueError:
        return
    try:
        sys.stdout.write(printable(verdict.line) + "\n")
        sys.stdout.flush()
    except (OSError, AttributeError, ValueError):  # nobody is there to be told
        os._exit(0 if verdict.ok else 1)
    sys.exit(0 if verdict.ok else 1)
