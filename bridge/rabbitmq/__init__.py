"""RabbitMQ behind the seam of :mod:`bridge.transport`.

Nothing else imports aio_pika, aiormq or pamqp.
"""
