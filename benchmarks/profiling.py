"""Where our worker's time goes under load: py-spy's flame graph, with the GIL or without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.measures.throughput import check
from benchmarks.options import Options
from benchmarks.workers import Ground, worker

_SAMPLES_A_SECOND: Final = 200


def profile(ground: Ground, options: Options, folder: Path) -> list[Path]:
    """Record our threaded worker under full load, and return the files written."""
    folder.mkdir(exist_ok=True)
    written = []
    with (
        worker(ground, "ours", "threads", options.threads) as process,
        ground.client("ours") as client,
    ):
        assert process is not None, "ours has one"  # noqa: S101
        check(client.one_by_one(2))
        check(client.closed(options.client_threads, 3))
        for kind in ("flamegraph", "raw"):
            path = folder / f"profile.{'svg' if kind == 'flamegraph' else 'txt'}"
            recording = subprocess.Popen(
                [
                    *(Path(sys.executable).parent / "py-spy", "record", "--gil", "--nonblocking"),
                    *("--pid", str(process.pid), "--rate", str(_SAMPLES_A_SECOND)),
                    *("--duration", str(int(options.seconds)), "--format", kind),
                    *("--output", path),
                ],
                stdout=sys.stderr,
            )
            check(client.closed(options.client_threads, options.seconds + 1))
            recording.wait(timeout=60)
            written.append(path)
    return written
