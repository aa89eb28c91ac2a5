"""A Redis Sentinel that watches one master, and makes a replica the next one within seconds."""

from __future__ import annotations

import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import redis

from sandbox.leash import LeashedProcess
from sandbox.ports import HOST, free_port
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer, find_redis_binary

NAME: Final = "mymaster"
START_TIMEOUT_SECONDS: Final = 60
_CONFIGURATION: Final = """\
bind {host}
port {port}
dir {folder}
sentinel monitor {name} {host} {master} 1
sentinel down-after-milliseconds {name} 1000
sentinel failover-timeout {name} 5000
"""


class Sentinel:
    """Alone, so that it decides alone. It knows *master* and the one replica it is given."""

    def __init__(
        self, master: RedisServer, replica: RedisServer, binary: Path | None = None
    ) -> None:
        self._binary = binary or find_redis_binary()
        self._master = master
        self._replica = replica
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="sandbox-sentinel-"))
        self._process: LeashedProcess | None = None

    def __enter__(self) -> Self:
        with redis.Redis.from_url(self._replica.url()) as replica:
            replica.replicaof(HOST, str(self._master.port))
        configuration = self._folder / "sentinel.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                host=HOST,
                port=self.port,
                folder=self._folder,
                name=NAME,
                master=self._master.port,
            ),
            encoding="utf-8",
        )
        with (self._folder / "log").open("ab") as log:
            self._process = LeashedProcess(
                [self._binary, configuration, "--sentinel"],
                environment={},
                cwd=self._folder,
                output=log,
                folder=self._folder,
            )
        poll_until(self._knows_the_replica, START_TIMEOUT_SECONDS, what="Sentinel to look around")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.end(signal.SIGKILL, START_TIMEOUT_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _knows_the_replica(self) -> bool:
        with (
            suppress(redis.RedisError),
            redis.Redis(host=HOST, port=self.port, protocol=2) as sentinel,
        ):
            replicas: Any = sentinel.sentinel_slaves(NAME)
            return [replica["master-link-status"] for replica in replicas] == ["ok"]
        return False
