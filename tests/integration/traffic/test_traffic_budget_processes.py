"""A budget is one budget, however many processes spend it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from sandbox.environment import base_variables
from tests.stage import redis_client
from worker.traffic.budgets import RateLimit

ROOT = Path(__file__).parents[3]

# As little as can be imported: processes start slowly on a busy machine.
HAMMER = """
import json, sys, time
import redis
from worker.errors import HeldBack
from worker.settings.model import Settings
from worker.storage.best_effort import BestEffortRedis
from worker.storage.redis_scripts import ScriptRunner
from worker.traffic.admission import Gate
from worker.traffic.budgets import Lane
from worker.traffic.scripts import Scripts
class Shop:
    client_id, base_url = "shop", "https://mosaic.example"
url, calls, lasts = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
client = redis.Redis.from_url(url, socket_timeout=60)
shared = BestEffortRedis(ScriptRunner(client.connection_pool), client)
gate = Gate(Scripts(shared), Settings.model_validate({
    "encryption_keys": "k1:" + "A" * 43 + "=", "lookup_key": "A" * 43 + "=",
    "mosaic_app_calls_per_minute": calls, "mosaic_source_calls_per_minute": 10**6,
}))
client.incr("ready")
while not client.exists("go"):
    time.sleep(0.01)
through, until = [], time.time() + lasts
while time.time() < until:
    try:
        gate.admit(Lane.LOGOUT, Shop, 0.0, whom="a session")
        through.append(time.time())
    except HeldBack:
        time.sleep(0.01)
print(json.dumps(through))
"""


def test_three_processes_together_use_up_the_budget_and_never_exceed_it(redis_url: str) -> None:
    calls, lasts = 1200, 2.5
    rate = RateLimit.of("key", "name", calls)
    interval, at_once = rate.interval / 1e6, rate.tolerance // rate.interval + 1
    command = [sys.executable, "-c", HAMMER, redis_url, str(calls), str(lasts)]
    with redis_client(redis_url) as client:
        hammers = [
            subprocess.Popen(  # noqa: S603 - our own script
                command, cwd=ROOT, env=base_variables() | {"PYTHONPATH": "."}, stdout=-1
            )
            for _ in range(3)
        ]
        while int(client.get("ready") or 0) < 3:
            assert all(hammer.poll() is None for hammer in hammers)
            time.sleep(0.01)
        client.set("go", 1)
        shares = [json.loads(hammer.communicate(timeout=120)[0]) for hammer in hammers]

    through = sorted(moment for share in shares for moment in share)
    lasted = through[-1] - through[0]
    assert all(shares)
    # Two more: a moment is read after the permit was given.
    assert len(through) <= at_once + lasted / interval + 2
    assert len(through) >= 0.9 * (at_once + lasted / interval)
