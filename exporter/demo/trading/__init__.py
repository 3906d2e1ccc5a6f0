"""A small trading platform that nobody instrumented: what the demo's exporter looks at.

`platform.py` lets prices wander in Redis, finds opportunities and sends orders by way of RabbitMQ, executes them in PostgreSQL
and has a Celery worker settle them (`settlement.py`); `service.py` is its HTTP side. All of them note in one `ledger.py` what
they really did, which is what the exporter's numbers can be held against. `python -m exporter.demo.trading` is the platform and
its HTTP side in one process, for a container. Nothing here knows the exporter.
"""
