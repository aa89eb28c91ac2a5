"""`make dev` is a stage on which the examples can be followed as printed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import httpx

from sandbox.environment import base_variables
from sandbox.processes import ManagedProcess

ROOT = Path(__file__).parent.parent.parent


def test_what_it_prints_for_the_example_of_notices_is_there(tmp_path: Path) -> None:
    with ManagedProcess(
        [sys.executable, "-m", "sandbox.dev"],
        environment=base_variables(),
        log_path=tmp_path / "dev.log",
        cwd=ROOT,
    ) as dev:
        dev.wait_for_line("Ctrl-C ends it", timeout=240)
        told = dict(re.findall(r"export (\w+)='?([^'\n]+)", dev.log_text()))
        keys = httpx.get(told["WORKER_JWKS_URL"], timeout=60).json()["keys"]
        code = dev.terminate(timeout=120)

    assert len(keys) == 1
    assert told["WORKER_ISSUER"] == told["MOSAIC_SESSIONS_NOTICE_ISSUER"]
    assert told["MOSAIC_SESSIONS_NOTICE_PRIVATE_ADDRESSES"] == "true"
    assert code == 0
