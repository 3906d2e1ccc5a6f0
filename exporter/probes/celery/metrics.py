"""The series of a Celery probe: their names, kinds, labels and help."""

from exporter.model import Kind, Metric

UP = Metric(
    "celery_up",
    Kind.GAUGE,
    "Whether the last check found the workers that are expected: 1, or 0 when it did not, or could not use the broker.",
)
WORKER_UP = Metric(
    "celery_worker_up",
    Kind.GAUGE,
    "Whether the worker answers a ping or sends heartbeats: 1 or 0; as it was before while the broker cannot be used, then absent.",
    ("hostname",),
)
TASKS = Metric(
    "celery_tasks_total",
    Kind.COUNTER,
    "Task events by state, from Celery's event stream since the exporter started; queue_name is that of task-sent, else the only"
    " queue of the worker, else unknown. Needs task events (-E); sent needs task_send_sent_event. Over Redis events are lost while"
    " nobody listens.",
    ("name", "state", "queue_name"),
)
TASK_SECONDS = Metric(
    "celery_task_duration_seconds",
    Kind.HISTOGRAM,
    "Seconds that tasks ran: of succeeded ones the runtime in the event, of failed and retried ones from task-started to the end on"
    " the worker's clock. Needs task events (-E).",
    ("name", "state"),
)
QUEUE_LENGTH = Metric(
    "celery_queue_length",
    Kind.GAUGE,
    "Messages waiting in the queue: over RabbitMQ those ready, from a passive declare, absent while the queue does not exist; over"
    " Redis the lists of all priorities, from LLEN.",
    ("queue_name",),
)
EVENT_PATH_UP = Metric(
    "celery_event_path_up",
    Kind.GAUGE,
    "Whether what is sent to the event queue is received: 1, or 0 when nothing came back for 5 seconds; proved by a nonce of ours.",
)
EVENTS_REJECTED = Metric(
    "celery_events_rejected_total",
    Kind.COUNTER,
    "Messages among the events, or events in a batch, that could not be read, by reason; nothing but JSON is decoded.",
    ("reason",),
)

DECLARED: tuple[Metric, ...] = (UP, WORKER_UP, TASKS, TASK_SECONDS, QUEUE_LENGTH, EVENT_PATH_UP, EVENTS_REJECTED)
