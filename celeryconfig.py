"""Celery's settings, each with its reason. The broker's address comes from Paybatch's own settings.

The broker is a doorbell: messages carry a payout's id, and the table decides what it means. So a
message may be lost or doubled, and no setting here has to prevent it.
"""

from kombu import Queue

from workers.pace import threads_for
from workers.queues import SWEEP, queues_of
from workers.runtime import settings_of
from workers.settings import Settings

_settings = Settings.load(settings_of)

broker_url = "memory://localhost/" if _settings.embedded else _settings.broker_url
broker_connection_retry_on_startup = True
# The process's supervisor and the alarm on progress decide when to give up, not a count.
broker_connection_max_retries = None
# A broker that is read-only after a failover answers with errors; that must not end the worker.
broker_channel_error_retry = True
# A publisher that gets no connection fails; its payouts are announced again.
broker_pool_acquire_timeout = 10
_queue_arguments = None
if _settings.embedded:
    # The in-process broker looks for messages this often; its default of 1 s stalls everything.
    broker_transport_options = {"polling_interval": 0.005}
elif _settings.broker_url.startswith(("amqp:", "amqps:", "pyamqp:")):
    # A publish that RabbitMQ has not confirmed raises here, instead of being believed.
    broker_transport_options = {"confirm_publish": True, "read_timeout": 30, "write_timeout": 30}
    # Replicated, and kept through a restart; a message that ended so many workers is thrown away.
    # Source: RabbitMQ documentation, "Quorum Queues".
    _queue_arguments = {"x-queue-type": "quorum", "x-delivery-limit": 20}
else:
    broker_transport_options = {
        # What is out is written down in the table, and a lost message is announced again sooner
        # than Redis would bring it back: so no list of unacknowledged messages is kept there,
        # which costs more than half of a message. A worker that stops puts back what it has left.
        "ack_emulation": False,
        # Without these a publish waits for ever on a dead link.
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        # No message has a priority: one list a queue to ask for, not four.
        "priority_steps": [0],
    }

# A message is acknowledged after its work: RabbitMQ brings a killed worker's messages back, and
# with Redis the table does. What they are then worth is the table's business.
task_acks_late = True
task_acks_on_failure = True
task_acks_on_timeout = True
# A worker that died is found by the sweep; a message that kills workers must not come back at once.
task_reject_on_worker_lost = False
# A blink of the broker must not stop a provider call half-way.
worker_cancel_long_running_tasks_on_connection_loss = False
# Few messages are stranded by a crash, and no worker hoards them.
worker_prefetch_multiplier = 1
# As many threads as all accounts together have room for payouts: so one whose every call hangs
# leaves the others theirs. With fewer (`-c`), they are shared out; see `workers.pace.shares`.
worker_concurrency = threads_for(a.in_flight_max for a in _settings.accounts.values())
# After TERM a worker lets its calls end, however long they take, and gives the rest back; after
# QUIT it waits so long: longer than the longest call.
worker_soft_shutdown_timeout = 45
# Delayed delivery, which quorum queues would bring, is not used: due times are columns.
worker_detect_quorum_queues = True

# Nothing is returned, so nothing is kept, and nothing can leak.
task_ignore_result = True
result_backend = None
task_serializer = "json"
accept_content = ["json"]
# A mistyped queue must fail at once, not swallow messages.
task_create_missing_queues = False
task_default_queue = SWEEP
# Every worker takes from all of them; `-Q pay.NAME,poll.NAME` makes one an account's own.
task_queues = [
    Queue(name, routing_key=name, queue_arguments=_queue_arguments)
    for name in queues_of(_settings.accounts)
]
# One quick try: a payout that was not announced stays due.
task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.1}

timezone = "UTC"
enable_utc = True
# For Flower, which no embedded worker has. A sent-event would be one more message a payout at the
# dispatcher.
worker_send_task_events = not _settings.embedded
task_send_sent_event = False
worker_hijack_root_logger = False

# Settlement reads files, which is the business of `batches`; `workers` never imports that. So its
# task is named here, and a worker without schedules does not load what reads files.
imports = ("batches.tasks",) if _settings.schedules else ()

beat_schedule = {
    # Ticks that nobody took in time are worthless; the next one finds the same work. RabbitMQ
    # throws them away; in Redis the latest are kept (`workers.redis_broker`). Between two of them
    # polls heap up, which then keep what is to be sent from its turn: with half a second, a tenth
    # of an account's calls were not made.
    "dispatch": {"task": "workers.tasks.dispatch", "schedule": 0.2, "options": {"expires": 5}},
    "sweep": {"task": "workers.tasks.sweep", "schedule": 2.0, "options": {"expires": 5}},
}
if _settings.schedules:
    # It carries nothing, and asks what is due: two beats, or a tick that is lost, change nothing.
    beat_schedule["settle"] = {
        "task": "paybatch.settle",
        "schedule": 20.0,
        "options": {"queue": SWEEP, "expires": 60},
    }
