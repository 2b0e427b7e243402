"""`python -m bridge.testing.rabbitmq`: a RabbitMQ of one's own, from the shell."""

import contextlib
import signal
import sys
from collections.abc import Sequence

from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.obtain import obtain_broker
from bridge.testing.rabbitmq.server import ensure_server


def main(arguments: Sequence[str]) -> int:
    """`ensure` installs a server if there is none; `run` runs a broker until Ctrl-C.

    Returns the exit code.
    """
    try:
        match list(arguments):
            case ["ensure"]:
                sys.stdout.write(f"RabbitMQ: {ensure_server()}\n")
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
    """Run until Ctrl-C or SIGTERM, which may also come while the node is still starting."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts background jobs with SIGINT ignored; so does continuous integration.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), obtain_broker(_print_error) as broker:
        sys.stdout.write(f"{broker.url}\n")
        sys.stdout.flush()
        signal.pause()


def _print_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
