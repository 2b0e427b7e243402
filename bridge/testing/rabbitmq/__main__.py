"""``python -m bridge.testing.rabbitmq``: a RabbitMQ of one's own, on the command line."""

import contextlib
import signal
import sys
from collections.abc import Sequence

from bridge.testing.rabbitmq.obtain import obtain_broker
from bridge.testing.rabbitmq.server import BrokerUnavailable, ensure_server


def main(arguments: Sequence[str]) -> int:
    """`ensure` installs a server if there is none; `run` runs a broker until Ctrl-C. Returns the exit code."""
    try:
        match list(arguments):
            case ["ensure"]:
                print(f"RabbitMQ: {ensure_server()}")  # noqa: T201 - a command's output
            case ["run"]:
                _run_until_interrupted()
            case _:
                _print_error("usage: python -m bridge.testing.rabbitmq ensure|run")
                return 2
    except BrokerUnavailable as error:
        _print_error(str(error))
        return 1
    return 0


def _run_until_interrupted() -> None:
    """Until Ctrl-C or SIGTERM, which may also come while the node is still starting."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell has its background jobs ignore it, and what runs in them without a terminal: continuous integration.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), obtain_broker(_print_error) as broker:
        print(broker.url, flush=True)  # noqa: T201 - a command's output
        signal.pause()


def _print_error(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - a command's output


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
