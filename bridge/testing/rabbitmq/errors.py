"""What goes wrong: there is no RabbitMQ, or it does not do as it is told."""


class BrokerUnavailable(RuntimeError):
    """RabbitMQ is missing, did not start or refused a command. The text says why."""
