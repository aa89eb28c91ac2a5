"""Processes that end when we end, however we end.

A test run may be killed outright, and then no `finally` runs. So each process gets a
watchdog: a shell that waits on a pipe held open by us alone. When we are gone the pipe
closes, and the watchdog ends the process with its family and removes its folder.
Linux's PR_SET_PDEATHSIG would do less: it fires when the *thread* that started the
process ends, it spares grandchildren, and macOS does not know it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ClassVar

# $1 signal, $2 process group, $3 folder to remove (may be empty). It waits a bounded
# time, because a dead process that no parent reaps still looks alive.
WATCHDOG = """
read -r _
kill -s "$1" -- "-$2" 2>/dev/null
tries=0
while kill -0 -- "-$2" 2>/dev/null && [ "$tries" -lt 50 ]; do
    tries=$((tries + 1)); sleep 0.1
done
if [ -n "$3" ]; then rm -rf -- "$3"; fi
"""

# However short the grace before it: a kill that takes its time is no reason to leave it behind.
KILL_TIMEOUT_SECONDS = 60
FREEZE_TIMEOUT_SECONDS = 60


class LeashedProcess:
    """A running process, leader of a process group of its own."""

    popen: ClassVar[Callable[..., Any]] = staticmethod(subprocess.Popen)
    """Tests fork their programs instead: starting each takes seconds."""

    def __init__(  # noqa: PLR0913 - what `subprocess` asks for, and no more
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        output: IO[bytes],
        end_signal: signal.Signals = signal.SIGKILL,
        folder: Path | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        """Start *command*. Should we die, send it *end_signal* and remove *folder*."""
        self._process = self.popen(
            command,
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **(identity or {}),
        )
        self.pid: int = self._process.pid
        self._watchdog = self._start_watchdog(end_signal, folder)

    def _start_watchdog(
        self, end_signal: signal.Signals, folder: Path | None
    ) -> subprocess.Popen[bytes]:
        name = end_signal.name.removeprefix("SIG")
        return subprocess.Popen(
            ["sh", "-c", WATCHDOG, "watchdog", name, str(self.pid), str(folder or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C is meant for us: a watchdog that shared our group would die of it.
            start_new_session=True,
        )

    @property
    def returncode(self) -> int | None:
        """How it ended: negative for a signal, None while it runs."""
        code: int | None = self._process.poll()
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this one process, unless it has ended."""
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Stop it with its family, and return once none of their threads runs; until `thaw`.

        The kernel stops a process when the thread that takes the signal gets to run. Until then,
        which on a busy machine is a while, the other threads go on and may still answer.
        """
        os.killpg(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + FREEZE_TIMEOUT_SECONDS
        while not all(state in "TtXZ" for state in _states_of_threads(self.pid)):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"process group {self.pid} does not stop")
            time.sleep(0.001)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        os.killpg(self.pid, signal.SIGCONT)

    def wait(self, timeout: float) -> int:
        """Return its exit code. Raises `subprocess.TimeoutExpired`."""
        returncode: int = self._process.wait(timeout)
        if not self._has_family():
            self._dismiss_watchdog()
        return returncode

    def end(self, number: signal.Signals, timeout: float) -> int:
        """Ask with *number*, and insist with SIGKILL when *timeout* seconds have passed.

        What it leaves behind is killed: a Redis that is killed while it hands a replica its data
        leaves the child that does so, and the watchdog would wait for that one.
        """
        self.send(number)
        self.send(signal.SIGCONT)  # a frozen process hears nothing but SIGKILL
        try:
            returncode = self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            returncode = self.wait(KILL_TIMEOUT_SECONDS)
        self.end_family()
        return returncode

    def end_family(self) -> None:
        """Kill the process and what it has left behind in its group."""
        with suppress(ProcessLookupError):  # there is none, or the last has just gone
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(KILL_TIMEOUT_SECONDS)
        self._dismiss_watchdog()

    def _has_family(self) -> bool:
        """Whether our group has members. While it has, its number is given to no other process."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _dismiss_watchdog(self) -> None:
        if self._watchdog.stdin and not self._watchdog.stdin.closed:
            self._watchdog.kill()  # before the pipe closes, or it would do its work
            self._watchdog.wait()
            self._watchdog.stdin.close()


def children_of(pid: int) -> list[int]:
    """Process ids of the direct children of *pid*, oldest number first."""
    if not Path("/proc/self/stat").exists():  # macOS
        listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=False)
        return sorted(int(line) for line in listed.stdout.split())
    return sorted(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _stat(int(entry.name))[1:2] == [str(pid)]
    )


def is_running(pid: int) -> bool:
    """Whether *pid* names a process that is neither gone nor waiting to be reaped."""
    if Path("/proc/self/stat").exists():
        return _stat(pid)[:1] not in ([], ["Z"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _states_of_threads(group: int) -> Iterator[str]:
    """State of each thread of a process group; nothing where there is no /proc (macOS)."""
    for task in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        state, _, its_group, *_ = _stat_in(task) or ("", "", "")
        if its_group == str(group):
            yield state


def _stat(pid: int) -> list[str]:
    """State, parent, group and so on, or nothing when the process is gone."""
    return _stat_in(Path("/proc", str(pid)))


def _stat_in(folder: Path) -> list[str]:
    try:
        text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()  # the name before it may hold spaces
