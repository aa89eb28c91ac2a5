"""The folder in which the processes of a pool count."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from worker.monitoring.shared_folder import new_folder

ROOT = Path(__file__).parents[3]
KILLED = """
import os, sys
from worker.monitoring.shared_folder import new_folder
new_folder(sys.argv[1])
os._exit(0)
"""
FORKED = """
import os, sys
from worker.monitoring.shared_folder import new_folder
folder = new_folder(sys.argv[1])
child = os.fork()
if child:
    os.waitpid(child, 0)
    print(folder.exists())
"""


def test_a_new_start_removes_what_a_killed_worker_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "sessions.db").write_text("the operator's own", encoding="utf-8")
    in_use = new_folder(str(tmp_path))
    subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, check=True
    )
    left = set(tmp_path.glob("mosaic-sessions-metrics-*")) - {in_use}

    fresh = new_folder(str(tmp_path))

    assert len(left) == 1
    assert set(tmp_path.iterdir()) == {tmp_path / "sessions.db", in_use, fresh}


def test_the_folder_goes_with_the_worker_and_not_with_a_child(tmp_path: Path) -> None:
    printed = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", FORKED, tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert printed == "True\n"
    assert list(tmp_path.iterdir()) == []
