"""One run of a maintenance job, timed: `python -m benchmarks.maintain expire|purge`.

A process of its own, as the worker that serves the maintenance queue would be.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from worker import wiring
from worker.maintenance.expire import expire_sessions
from worker.maintenance.purge import purge_history

BEGINS: Final = "connected"


def main(job: str) -> None:
    """Do it, and print what was done in how many seconds."""
    services = wiring.current()
    with services.store.read():
        print(BEGINS, flush=True)
    begin = time.monotonic()
    if job == "expire":
        counts = expire_sessions(services, override_guard=True)
        rows = counts.rows["expired"]
    else:
        counts = purge_history(services)
        rows = counts.rows["sessions"]
    print(json.dumps({"rows": rows, "seconds": time.monotonic() - begin}))


if __name__ == "__main__":
    main(sys.argv[1])
