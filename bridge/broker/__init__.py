"""RabbitMQ. The only package that imports aio_pika, aiormq or pamqp."""
