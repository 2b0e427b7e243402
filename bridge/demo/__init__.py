"""`dtbridge demo`: charging stations, a gateway and a worker, with real vendor messages between them, on a real RabbitMQ.

`vendors` has the handlers, `corpus` the messages, `stations` the charging stations; `play` runs it.
"""


def run_demo(amqp_url: str | None, count: int, pace: float) -> int:
    """Run the demo and leave nothing behind.

    Without `amqp_url` a broker is found or started. After the corpus a burst of `count` requests is played, and then the
    CSMS sends requests to stations; `pace` is the time between single messages, in seconds. Returns the exit code: 0 if every request got exactly the
    answer it should, 130 after Ctrl-C, else 1.
    """
    from bridge.demo.play import run  # noqa: PLC0415 - the worker imports this package too, and needs no screen

    return run(amqp_url, count, pace)
