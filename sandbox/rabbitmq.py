"""A private RabbitMQ: own ports on 127.0.0.1, own temporary folder, gone with the test.

The binaries come from the machine (Debian: `apt-get install rabbitmq-server`); without them there
is none. It has two virtual hosts, for the two kinds of queues, and the management API.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from sandbox.leash import LeashedProcess
from sandbox.ports import HOST, free_port
from sandbox.processes import poll_until

START_TIMEOUT_SECONDS: Final = 120
CLASSIC, QUORUM = "classic", "quorum"
# Debian's `rabbitmq-server` on PATH becomes another user, whose folders are the system's.
_SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def find_rabbitmq() -> Path | None:
    """Return the server, if this machine has one."""
    return _SERVER if _SERVER.exists() and shutil.which("epmd") else None


class RabbitMQ:
    """One server process, and the name service that Erlang asks for.

    With *authority* (PEM) it speaks TLS as well, on `tls_port`, with those who have a certificate
    of it, as *client* is one. *server* is its own; each file holds its key too.
    """

    def __init__(
        self,
        authority: Path | None = None,
        server: Path | None = None,
        client: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.tls_port = free_port()
        self._authority = authority
        self._certificate = server
        self._client = client
        self._api_port = free_port()
        self._environment: dict[str, str] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="sandbox-rabbitmq-"))
        self._exit = ExitStack()

    def url(self, kind: str) -> str:
        """Where queues that are declared without saying so are of *kind*."""
        return f"amqp://guest:guest@{HOST}:{self.port}/{kind}"

    def tls_url(self, kind: str) -> str:
        """The same in TLS, with the client's certificate."""
        ours = f"ssl_certfile={self._client}&ssl_keyfile={self._client}"
        return (
            f"amqps://guest:guest@{HOST}:{self.tls_port}/{kind}"
            f"?ssl_ca_certs={self._authority}&{ours}"
        )

    @property
    def api_url(self) -> str:
        """Where its management API is."""
        return f"http://guest:guest@{HOST}:{self._api_port}"

    def control(self, *words: str) -> None:
        """Run `rabbitmqctl`."""
        command: list[str | Path] = [_SERVER.with_name("rabbitmqctl"), *words]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have it hang, as `ManagedProcess.frozen` does."""
        self._server.freeze()
        try:
            yield
        finally:
            self._server.thaw()

    def __enter__(self) -> Self:
        self._exit.callback(shutil.rmtree, self._folder, ignore_errors=True)
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _start(self) -> None:
        names_port = free_port()
        environment = self._environment = {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "ERL_EPMD_PORT": str(names_port),
            "RABBITMQ_NODENAME": f"sandbox{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),
        }
        definitions = self._folder / "definitions.json"
        definitions.write_text(json.dumps(_definitions()), encoding="utf-8")
        (self._folder / "plugins").write_text("[rabbitmq_management].", encoding="utf-8")
        lines = [
            f"load_definitions = {definitions}",
            f"management.tcp.ip = {HOST}",
            f"management.tcp.port = {self._api_port}",
            "collect_statistics_interval = 1000",  # the API tells of policies as late as that
            *self._tls(),
        ]
        configuration = self._folder / "rabbitmq.conf"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Not left to Erlang, whose name service would outlive it.
        self._run(["epmd", "-port", str(names_port), "-address", HOST], environment)
        server = self._server = self._run([_SERVER], environment)
        poll_until(
            lambda: server.returncode is not None or self._answers(),
            START_TIMEOUT_SECONDS,
            what=f"RabbitMQ on port {self.port}",
        )
        if server.returncode is not None:
            output = (self._folder / "output").read_text(errors="replace")
            raise RuntimeError(f"RabbitMQ did not start:\n{output}")

    def _tls(self) -> list[str]:
        if self._authority is None:
            return []
        return [
            f"listeners.ssl.1 = {HOST}:{self.tls_port}",
            f"ssl_options.certfile = {self._certificate}",
            f"ssl_options.keyfile = {self._certificate}",
            f"ssl_options.cacertfile = {self._authority}",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
        ]

    def _run(self, command: list[str | Path], environment: dict[str, str]) -> LeashedProcess:
        with (self._folder / "output").open("ab") as output:
            process = LeashedProcess(
                command,
                environment=environment,
                cwd=self._folder,
                output=output,
                folder=self._folder,
            )
        self._exit.callback(process.end_family)  # a shell started the server
        return process

    def _answers(self) -> bool:
        """Whether it speaks AMQP: to what is none it says which version it would have."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x00\x00")
                return connection.recv(4) == b"AMQP"
        except OSError:
            return False


def _definitions() -> dict[str, Any]:
    everything = {"user": "guest", "configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": [{"name": "guest", "password": "guest", "tags": ["administrator"]}],
        "vhosts": [
            {"name": kind, "default_queue_type": kind, "metadata": {"default_queue_type": kind}}
            for kind in (CLASSIC, QUORUM)
        ],
        "permissions": [everything | {"vhost": kind} for kind in (CLASSIC, QUORUM)],
    }
