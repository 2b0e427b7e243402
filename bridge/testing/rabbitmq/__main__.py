"""`python -m bridge.testing.rabbitmq`: a RabbitMQ of one's own, from the shell."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence

from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.node import PrivateBroker
from bridge.testing.rabbitmq.obtain import obtain_broker
from bridge.testing.rabbitmq.server import ensure_server


def main(arguments: Sequence[str]) -> int:
    """`ensure` installs a server if there is none; `run` runs a broker until Ctrl-C.

    Returns the exit code. Raises SystemExit for a wrong argument, and for ``--help``.
    """
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "ensure":
            sys.stdout.write(f"RabbitMQ: {ensure_server()}\n")
        else:
            _run_until_interrupted(management=chosen.management)
    except BrokerUnavailable as error:
        _print_error(str(error))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bridge.testing.rabbitmq",
        description="A RabbitMQ of one's own on loopback, which leaves nothing behind.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="ensure|run")
    commands.add_parser(
        "ensure",
        help="install the system's RabbitMQ package if there is none, and print where it is",
        description="Install the system's RabbitMQ package if there is none, and print where its "
        "script is. No service is left running.",
    )
    run = commands.add_parser(
        "run",
        help="run a broker until Ctrl-C, and print its AMQP URL",
        description="Run a broker until Ctrl-C, and print its AMQP URL: the one at "
        "DTBRIDGE_AMQP_URL if that is set, else a node of the RabbitMQ that is installed (it is "
        "installed if there is none), else a container.",
    )
    run.add_argument(
        "--management",
        action="store_true",
        help="enable the management plugin as well, if the server has it, and print its URL on the "
        "second line: dtbridge topology, doctor and top see more with it (--management)",
    )
    return parser


def _run_until_interrupted(*, management: bool) -> None:
    """Run until Ctrl-C or SIGTERM, which may also come while the node is still starting."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts background jobs with SIGINT ignored; so does continuous integration.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        obtain_broker(_print_error, management=management) as broker,
    ):
        sys.stdout.write(f"{broker.url}\n")
        if management and broker.management_url:
            sys.stdout.write(f"{broker.management_url}\n")
        elif management:
            _print_error("There is no management API that is known of.")
        sys.stdout.flush()
        if isinstance(broker, PrivateBroker) and broker.shell_command:
            _print_error(f"rabbitmqctl of this node: {broker.shell_command}")
        signal.pause()


def _print_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
