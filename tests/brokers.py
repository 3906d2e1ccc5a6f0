"""What this worker's brokers are furnished with, beside their administrators.

RabbitMQ: users of few rights, a vhost, a queue, TLS. Redis: a user with the rights that the README asks for, TLS.
"""

import trustme

from exporter.demo.servers import HOST, Certificate
from exporter.demo.servers.rabbitmq import Queue, User

# name and password are the same: it is for tests alone
NOBODY = User("nobody", "nobody", configure="^$", write="^$", read="^$")
OURSELVES = User("ourselves", "ourselves", configure=r"^exporter\.", write=r"^(exporter\.|amq\.default$)", read=r"^exporter\.")
HOMELESS = User("homeless", "homeless", vhost=None)
OTHER_VHOST = "other/place"
NEIGHBOUR = User("neighbour", "neighbour", vhost=OTHER_VHOST)
QUEUE = "orders"
LOOKER = "looker"


def rabbitmq_furniture(authority: trustme.CA) -> dict[str, object]:
    """Options of `RabbitMQ`."""
    return {
        "users": (NOBODY, OURSELVES, HOMELESS, NEIGHBOUR),
        "vhosts": (OTHER_VHOST,),
        "queues": (Queue(QUEUE),),
        "certificate": _certificate(authority),
    }


def redis_furniture(authority: trustme.CA) -> dict[str, object]:
    """Options of `Redis`."""
    return {"acl": (f"user {LOOKER} on >{LOOKER} -@all +ping +info +select",), "certificate": _certificate(authority)}


def _certificate(authority: trustme.CA) -> Certificate:
    issued = authority.issue_cert(HOST, "localhost")
    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    return Certificate(chain, issued.private_key_pem.bytes())
