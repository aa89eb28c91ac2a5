"""What tests of `doctor` share: an installation in which nothing is wrong, and what is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Final

from pydantic import SecretStr

from migrations import target
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import told
from tests.integration.outbox.propagation_rig import signing
from tests.stage import Stage
from worker import wiring
from worker.celery_support import heartbeat
from worker.settings.model import Settings
from worker.tasks import maintenance

PASSWORD = "pw-canary-88"
WORKER: Final = {
    "hostname": "worker@here",
    "queues": ["auth", "idp", "login", "logout", "maintenance", "notify", "sessions"],
    "visibility_timeout": 180,
    "started_at": "2020-01-01T00:00:00+00:00",
    "schema": target.head(),
}

Plant = Callable[[Stage], AbstractContextManager[None]]


@contextmanager
def living(
    store_url: str, redis_url: str, mosaic: SimulatorServer, **settings: str
) -> Iterator[Stage]:
    """An app, a worker that lives, and beat's work done."""
    with signing(store_url, redis_url, mosaic, **settings) as stage:
        stage.redis.set(heartbeat.key_of_this_process(), json.dumps(WORKER), ex=600)
        maintenance.sweep()
        maintenance.expire_sessions()
        maintenance.purge_history()
        stage.add_app("shop", silent_by_user=False)
        yield stage


@contextmanager
def elsewhere(stage: Stage, **settings: Any) -> Iterator[None]:
    """Let the doctor run with other *settings*."""
    secret = {
        n for n, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
    }
    changed = {n: SecretStr(v) if n in secret and v else v for n, v in settings.items()}
    there = wiring.build(stage.settings.model_copy(update=changed), now=stage.now)
    with closing(there), wiring.use(there):
        yield


def findings(level: str, expect: int) -> dict[str, str]:
    found = told("doctor", expect=expect)
    return {one["check"]: one["says"] for one in found if one["level"] == level}
