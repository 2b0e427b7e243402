"""`dtbridge demo`: charging stations, a gateway and a worker exchange real vendor messages.

play        runs the demo on a real RabbitMQ
corpus      the messages, and the one right answer to each
stations    simulated charging stations
workshop    the worker's handlers
processes   the worker and the gateway as processes
verdict     compares an answer with the expected one
screen      the output
"""


def run_demo(amqp_url: str | None, count: int, pace: float) -> int:
    """Run the demo and leave nothing behind.

    Without `amqp_url`, a broker is found or started. The demo plays the corpus, then a burst of
    `count` requests, and then requests from the CSMS to stations. `pace` is the pause between
    single messages, in seconds.

    Returns the exit code: 0 if every request got exactly the answer it should, 130 after Ctrl-C,
    else 1.
    """
    # The worker imports this package too, and does not need the screen.
    from bridge.demo.play import run  # noqa: PLC0415 - see above

    return run(amqp_url, count, pace)
