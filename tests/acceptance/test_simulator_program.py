"""`python -m simulator`, as a program of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from simulator.controls.remote import RemoteSimulator

ROOT = Path(__file__).parents[2]


def test_the_program_tells_its_url_and_leaves_cleanly_on_sigterm(tmp_path: Path) -> None:
    port_file = tmp_path / "url"
    command = [sys.executable, "-m", "simulator", "--port-file", str(port_file)]
    with subprocess.Popen(  # noqa: S603 - our own program
        [*command, "--client", "shop:secret"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        url = wait_for(port_file)
        with RemoteSimulator(url) as remote:
            assert remote.login("ada", "shop").session_id

        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert printed.strip() == url


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, "the simulator did not start"
        time.sleep(0.02)
    return path.read_text()
