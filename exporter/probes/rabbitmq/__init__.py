"""RabbitMQ: a message of our own there and back decides; queues are looked at from a connection that never publishes."""
