"""What must be right before a worker takes its first job. Anything else refuses to start."""

from __future__ import annotations

from typing import Final

import redis

from worker.mosaic import faults
from worker.operations import dependencies, key_check
from worker.settings.model import Settings
from worker.settings.validators import is_redis
from worker.storage.encryption import KeyRing

EXIT_CODE: Final = 78  # EX_CONFIG: only a person can put it right, a supervisor need not try again
NOT_YET_EXIT_CODE: Final = 75  # EX_TEMPFAIL: a supervisor is to try again until it works


def check(settings: Settings) -> None:
    """Raise `ConfigurationError` that says what to do, or `NotReady`, or return.

    Leaves no connection open: the worker forks after this.
    """
    keyring = KeyRing.from_settings(settings)
    with dependencies.opened_store(settings) as store:
        dependencies.check_database(store)
        key_check.check(store, keyring)
    broker_url = settings.broker_url.get_secret_value()
    if is_redis(broker_url):
        dependencies.check_redis(
            "CELERY_BROKER_URL", broker_url, settings, dependencies.check_broker
        )
    # Not the broker when REDIS_URL is set: it is there that workers say how they are set up.
    name = "REDIS_URL" if settings.redis_url is not None else "CELERY_BROKER_URL"
    dependencies.check_redis(name, settings.cache_url, settings, _check_peers)


def _check_peers(client: redis.Redis, settings: Settings) -> None:
    dependencies.check_peers(client, settings)
    # Our settings may be other ones than before; what is still wrong will be noted anew.
    client.delete(faults.KEY)
