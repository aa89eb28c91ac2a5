"""How delivery works: broker, queues, routes, schedule. Each line that is no default says why.

The broker is transport, the database is truth: Redis can lose a message without a trace and can
deliver it twice, also at the same time. Whatever matters works from a row it has claimed.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES

from session_client import broker, contract, sentinels
from worker.errors import ConfigurationError
from worker.settings import model as settings_module
from worker.settings.validators import is_redis

try:
    _settings = settings_module.current()
except ConfigurationError as error:
    sys.stderr.write(f"The session worker is not configured: {error}\n")
    sys.exit(78)

_MAINTENANCE: Final = contract.Queue.MAINTENANCE.value

# --- broker
# Takes a job and notes its worker in one step; kombu's own can lose it in between, and costs more.
_TRANSPORT: Final = "session-worker"
TRANSPORT_ALIASES[_TRANSPORT] = "worker.celery_support.transport:Transport"


def _as_kombu_spells_it(url: str) -> str:
    # Of a socket's URL it takes the transport from the scheme, whatever `broker_transport` says.
    if not url.startswith("unix://"):
        return url
    place, question, options = url.removeprefix("unix://").partition("?")
    options = options.replace("db=", "virtual_host=")
    return f"{_TRANSPORT}+socket://{place}{question}{options}"


_broker = _settings.broker_url.get_secret_value()
_place, _sentinels = sentinels.split(_broker) if is_redis(_broker) else (_broker, {})
# Not `broker_url`: the environment's CELERY_BROKER_URL, as it is spelt there, would win over it.
broker_read_url = broker_write_url = _as_kombu_spells_it(broker.kombu_url(_place))
broker_transport = _TRANSPORT if is_redis(_broker) else None
broker_use_ssl = broker.tls_options(_broker)  # else jobs go in clear, or to any certificate
broker_transport_options = _sentinels | broker.transport_options(
    client_name="session-worker", visibility_timeout_seconds=_settings.visibility_timeout_seconds
)
# RabbitMQ alone. With the default, two minutes, a worker may listen on a dead link for four, and
# what was on its way to it comes again no sooner.
broker_heartbeat = 10
broker_connection_retry_on_startup = True
broker_connection_max_retries = None  # default 100, then it gives up while Redis is being repaired
broker_channel_error_retry = True  # survive a Redis that is full or read-only for a while
broker_pool_limit = _settings.concurrency + 2  # each slot may be sending a wake-up
# A wake-up that cannot be sent at once is sent by the sweep; no thread should wait for it.
task_publish_retry_policy = {
    "max_retries": 2,
    "interval_start": 0.1,
    "interval_step": 0.2,
    "interval_max": 0.5,
}

# --- messages: JSON only, never pickle or yaml
task_serializer = "json"
accept_content = ["json"]
enable_utc = True
timezone = "UTC"

# --- queues: one a class of work
task_queues = broker.queues()
task_default_queue = contract.Queue.LOGOUT.value
task_create_missing_queues = False  # a misspelt -Q must fail, not consume nothing
task_routes = {
    **{task.value: {"queue": queue.value} for task, queue in contract.QUEUE_OF.items()},
    "logouts.*": {"queue": contract.Queue.IDP.value},
    "notices.deliver": {"queue": contract.Queue.NOTIFY.value},
    "maintenance.*": {"queue": _MAINTENANCE},
}
imports = (
    "worker.tasks.sessions",
    "worker.tasks.logouts",
    "worker.tasks.notices",
    "worker.tasks.maintenance",
)

# --- delivery: at least once
task_acks_late = True  # a job is done when it is done, not when it begins
task_reject_on_worker_lost = True  # with late acks alone a killed pool child's job is lost
task_retry_on_worker_lost = True  # and this caps a job that always kills its process

# --- answers go to reply lists: results leak slots, hang for 19 s, and every app could read them
task_ignore_result = True
result_backend = None
task_store_errors_even_if_ignored = False

# --- worker
worker_pool = "threads"  # ours, celery_support/thread_pool.py; `-P processes` for prefork
worker_concurrency = _settings.concurrency
worker_prefetch_multiplier = 1  # a slow logout must not hold up jobs reserved behind it
worker_consumer = "worker.celery_support.consumer:SafeConsumer"
# With remote control or gossip on, a worker exits when Redis goes away while a job is under way,
# and any app that may publish could shut it down.
worker_enable_remote_control = False
worker_send_task_events = False  # events carry arguments
task_send_sent_event = False
worker_hijack_root_logger = False  # logs are ours, see worker/logs.py
worker_redirect_stdouts = False
worker_cancel_long_running_tasks_on_connection_loss = False  # they finish; duplicates are harmless
# Celery gives the count back by `basic.qos` from the pool's threads. On RabbitMQ the loop can then
# wait for an answer that a job's thread has read, and takes no job until heartbeats fail.
worker_enable_prefetch_count_reduction = False
# Prefork only; threads have their own deadlines in code.
task_time_limit = 60
task_soft_time_limit = 50
worker_max_tasks_per_child = 10_000
worker_max_memory_per_child = 400_000  # KiB
worker_soft_shutdown_timeout = 20

# --- schedule: all three may run twice at once; a message not taken in time is not needed any more

# Keeps no file, which beat would need a writable folder for. What it would be kept for: a beat that
# is restarted every half hour must still have the history purged. So a start has all done at once.
# A purge asked for each minute goes on soon where it could not end; most find that none is due.
beat_scheduler = "celery.beat:Scheduler"
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _every(seconds: float, task: str) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": seconds,
        "options": {"expires": max(seconds, 1.0)},
        "last_run_at": _LONG_AGO,
    }


beat_schedule = {
    "sweep": _every(_settings.sweep_every_seconds, "maintenance.sweep"),
    "expire-sessions": _every(_settings.expire_every_seconds, "maintenance.expire_sessions"),
    "purge-history": _every(_settings.purge_asked_every_seconds, "maintenance.purge_history"),
}
beat_max_loop_interval = 5
