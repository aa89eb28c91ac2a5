"""What `make dev` prints can be pasted as it is printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx

from sandbox.environment import base_variables
from sandbox.processes import ManagedProcess

ROOT = Path(__file__).parent.parent.parent


def doctor(exported: dict[str, str]) -> Any:
    """What `mosaic-sessions doctor` finds where it is followed as printed."""
    command = Path(sys.executable).parent / "mosaic-sessions"
    done = subprocess.run(  # noqa: S603 - our own command
        [command, "doctor", "--json"],
        env=base_variables() | exported,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_what_it_prints_works_as_printed(tmp_path: Path) -> None:
    with ManagedProcess(
        [sys.executable, "-m", "sandbox.dev"],
        environment=base_variables(),
        log_path=tmp_path / "dev.log",
        cwd=ROOT,
    ) as dev:
        dev.wait_for_line("Ctrl-C ends it", timeout=240)
        told = dict(re.findall(r"export (\w+)='?([^'\n]+)", dev.log_text()))
        keys = httpx.get(told["WORKER_JWKS_URL"], timeout=60).json()["keys"]
        sample = dev.log_text().partition("In an app (pip install ./client):")[2]
        pasted = subprocess.run(  # noqa: S603 - our own text
            [sys.executable, "-c", dedent(sample.partition("For mosaic-sessions")[0])],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        found = doctor(told)
        code = dev.terminate(timeout=120)

    assert pasted.stdout.split() == ["authenticated", "logged_out"]
    assert {one["level"] for one in found} == {"good"}, found
    assert len(keys) == 1
    assert told["WORKER_ISSUER"] == told["MOSAIC_SESSIONS_NOTICE_ISSUER"]
    assert told["MOSAIC_SESSIONS_NOTICE_PRIVATE_ADDRESSES"] == "true"
    assert code == 0
