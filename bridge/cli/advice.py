"""What to do next about what went wrong outside of a command."""

from bridge.transport import BrokerUnreachable, TransportError


def with_advice(error: TransportError) -> str:
    """The error's sentence, and what to do, where that is known."""
    if isinstance(error, BrokerUnreachable):
        return (
            f"{error}; --amqp-url says where the broker is, and `dtbridge doctor` what is wrong "
            "there"
        )
    return str(error)
