"""Celery workers, their tasks and their queues, over RabbitMQ or Redis, without Celery."""
