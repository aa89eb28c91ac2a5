"""Worker, beat and simulator as real processes that a test can watch, stop and kill.

Each has its output in a log file, an environment it was given in full, and a leash:
see `sandbox.leash` for why none of them outlives the run that started it.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from sandbox.environment import coverage_variables
from sandbox.leash import LeashedProcess, children_of

T = TypeVar("T")

LOG_LINES_IN_ERRORS = 40
GRACE_SECONDS = 5


def poll_until(
    condition: Callable[[], T],
    timeout: float,
    interval: float = 0.02,
    what: str = "the condition",
) -> T:
    """Return the first truthy answer of *condition*, asking every *interval* seconds.

    Raises `TimeoutError`, which tells *what* we waited for and the last answer.
    """
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}; last answer: {answer!r}")
        time.sleep(interval)
    return answer


class ManagedProcess:
    """A command that runs between `start` and `terminate` or `kill`, again and again.

    As a context manager it ends with its whole family, whatever the test did.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        log_path: Path,
        cwd: Path | None = None,
    ) -> None:
        self._command = list(command)
        # Lines run by a child count too, if our own coverage is measured.
        self._environment = {**environment, **coverage_variables()}
        self._log_path = log_path
        self._cwd = cwd or Path.cwd()
        self._log_start = 0
        # All of them, because orphans of a killed start may still be there at the end.
        self._starts: list[LeashedProcess] = []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it with its whole family."""
        for process in self._starts:
            process.end(signal.SIGTERM, GRACE_SECONDS)
        self._starts.clear()

    def __repr__(self) -> str:
        return f"<ManagedProcess {self._command[:4]}>"  # never its environment: it holds keys

    def start(self) -> Self:
        """Start the command; its log is appended to."""
        if self.is_alive:
            raise RuntimeError(f"{self!r} is running already")
        with self._log_path.open("ab") as log:
            self._log_start = log.tell()
            process = LeashedProcess(
                self._command, environment=self._environment, cwd=self._cwd, output=log
            )
        self._starts.append(process)
        return self

    @property
    def _running(self) -> LeashedProcess:
        if not self._starts:
            raise RuntimeError(f"{self!r} was not started")
        return self._starts[-1]

    @property
    def pid(self) -> int:
        """Process id of the latest start."""
        return self._running.pid

    @property
    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return bool(self._starts) and self._running.returncode is None

    @property
    def returncode(self) -> int | None:
        """How it ended: negative for a signal, None while it runs."""
        return self._running.returncode

    def children(self) -> list[int]:
        """Process ids of its direct children, such as the pool of a prefork worker."""
        return children_of(self.pid)

    def log_text(self) -> str:
        """Everything it has printed, all starts together."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def wait_for_line(self, text: str, timeout: float = 30) -> str:
        """Return the first line with *text* in it that was printed since the latest start.

        Raises `TimeoutError` with the end of the log, at once if the process has ended.
        """

        def line_or_end() -> str | bool:
            # In this order, so that the last words of a dead process are still read.
            alive = self.is_alive
            return self._find_line(text) or not alive

        try:
            found = poll_until(line_or_end, timeout, what=f"a log line with {text!r}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self._log_end()}") from None
        if isinstance(found, str):
            return found
        raise TimeoutError(
            f"{self!r} ended with {self.returncode} before {text!r}\n{self._log_end()}"
        )

    def _find_line(self, text: str) -> str | None:
        with self._log_path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        return next((line for line in lines if text in line), None)

    def _log_end(self) -> str:
        return "\n".join(self.log_text().splitlines()[-LOG_LINES_IN_ERRORS:])

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its children."""
        self._running.send(number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it and its children hang: they are there, keep their connections, do nothing."""
        self._running.freeze()
        try:
            yield
        finally:
            self._running.thaw()

    def wait(self, timeout: float) -> int:
        """Return its exit code once it has ended. Raises `TimeoutError`."""
        try:
            return self._running.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self!r} runs on after {timeout:g} s\n{self._log_end()}") from None

    def terminate(self, timeout: float = 30) -> int:
        """Ask it to stop with SIGTERM and return its exit code. Raises `TimeoutError`."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL the process itself. Its children are left to notice, as after a real crash."""
        self.send(signal.SIGKILL)
        self.wait(timeout=60)
