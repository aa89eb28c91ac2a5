"""The whole system on one machine: Redis, a Mosaic simulator, a database, workers and beat.

All are real processes (the simulator too, but in tests), on loopback, with private ports, in one
temporary folder that is removed at the end.
"""

from __future__ import annotations

import base64
import functools
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from alembic import command
from click.testing import CliRunner

from migrations.target import config_for
from sandbox.environment import base_variables
from sandbox.processes import ManagedProcess, poll_until
from sandbox.redis_server import RedisServer
from simulator.controls.remote import RemoteSimulator
from simulator.server import SimulatorServer
from worker import wiring
from worker.cli.root import commands
from worker.settings import model as worker_settings

PREFIX = "MOSAIC_SESSIONS_"
START_SECONDS = 90.0
# The apps of the tests name users by their ids alone, which a real one should not need.
_ALLOWED = ("--allow", "silent_by_user")


@dataclass(frozen=True)
class AddedApp:
    """An app the worker knows: at Mosaic as a client, here by a key."""

    client_id: str
    client_secret: str = field(repr=False)
    app_key: str = field(repr=False)


def add_app(
    environment: Mapping[str, str], mosaic: RemoteSimulator, app_id: str, *arguments: str
) -> AddedApp:
    """Register an app with the operators' command, and its client at Mosaic.

    *environment* is the worker's, and *arguments* are more of that command's.
    """
    client_id, client_secret = f"client-{app_id}", f"secret-{secrets.token_hex(16)}"
    mosaic.add_client(client_id, client_secret)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as secret_file:
        secret_file.write(client_secret)
        secret_file.flush()
        words = ("apps", "add", app_id, "--client-id", client_id, "--quiet", *arguments)
        printed = _operate(environment, *words, "--client-secret-file", secret_file.name)
    return AddedApp(client_id, client_secret, printed.strip().splitlines()[-1])


def _operate(environment: Mapping[str, str], *words: str) -> str:
    """Run the operators' command here: a process of its own takes more than a second."""
    with (
        closing(wiring.build(worker_settings.read(environment))) as services,
        wiring.use(services),
    ):
        done = CliRunner().invoke(commands, words)
    if done.exit_code != 0:
        raise RuntimeError(f"{' '.join(words)} exited with {done.exit_code}:\n{done.output}")
    return done.stdout


class Stack:
    """Starts nothing by itself but Redis and the simulator; the verbs start the rest.

    *settings* are fields of the worker's settings, by name: ``{"log_level": "debug"}``. The
    simulator is a process where *simulator_process* says so, or else `has_simulator_process`; what
    *simulator_options* are, `python -m simulator --help` tells. *folder* is kept at the end.
    """

    has_simulator_process: ClassVar[bool] = True
    """Tests serve it from a thread of their own process instead: a process costs each a second."""

    def __init__(  # noqa: PLR0913 - what may differ from one to another
        self,
        *,
        redis: RedisServer | None = None,
        broker_url: str | None = None,
        database_url: str | None = None,
        simulator_process: bool | None = None,
        simulator_options: Sequence[str] = (),
        settings: Mapping[str, object] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._exit = ExitStack()
        self._settings = settings or {}
        self._redis = redis
        self._broker_url = broker_url
        self._database_url = database_url
        self._simulator_process = (
            self.has_simulator_process if simulator_process is None else simulator_process
        )
        self._simulator_options = simulator_options
        self._given_folder = folder
        self.folder: Path
        self.redis: RedisServer
        self.mosaic: RemoteSimulator
        self.mosaic_url: str
        self.environment: dict[str, str]
        self.processes: dict[str, ManagedProcess] = {}

    def __enter__(self) -> Self:
        with ExitStack() as exit_stack:
            self.folder = self._given_folder or Path(
                exit_stack.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-stack-"))
            )
            self.redis = self._redis or exit_stack.enter_context(RedisServer())
            self.mosaic_url = self._start_simulator(exit_stack)
            self.mosaic = exit_stack.enter_context(RemoteSimulator(self.mosaic_url))
            self.environment = self._environment()
            self._exit = exit_stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        complaints = [] if kind else self._complaints()
        # Together: each takes a second or two to end, and is waited for.
        with ThreadPoolExecutor() as threads:
            list(threads.map(ManagedProcess.close, self.processes.values()))
        self._exit.close()
        if complaints:
            raise AssertionError(f"not as Mosaic's pages say: {complaints}")

    @property
    def broker_url(self) -> str:
        """Where apps publish."""
        return self.environment["CELERY_BROKER_URL"]

    @property
    def _sqlite_path(self) -> Path:
        return self.folder / "sessions.db"

    def migrate(self) -> None:
        """Bring the database to head, as `alembic upgrade head` does.

        A new SQLite one is copied from another at head: migrating each takes half a second.
        """
        if self._database_url is None and not self._sqlite_path.exists():
            self._sqlite_path.write_bytes(_sqlite_at_head())
        else:
            command.upgrade(config_for(self.environment["DATABASE_URL"]), "head")

    def worker(self, *arguments: str, name: str = "worker") -> ManagedProcess:
        """Start `celery -A worker worker` and return once it takes jobs."""
        worker = self.start(name, "celery", "-A", "worker", "worker", *arguments)
        worker.wait_for_line("ready.", timeout=START_SECONDS)
        return worker

    def beat(self, name: str = "beat", cwd: Path | None = None) -> ManagedProcess:
        """Start `celery -A worker beat`."""
        beat = self.start(name, "celery", "-A", "worker", "beat", cwd=cwd)
        beat.wait_for_line("beat: Starting", timeout=START_SECONDS)
        return beat

    def start(self, name: str, *command: str, cwd: Path | None = None) -> ManagedProcess:
        """Start one of the project's commands under *name*; it ends with the stack."""
        process = ManagedProcess(
            _command(command),
            environment=self.environment,
            log_path=self.folder / f"{name}.log",
            cwd=cwd or _root(),
        )
        self.processes[name] = self._exit.enter_context(process)
        return process

    def run(self, *command: str, expect: int | None = 0) -> str:
        """Run one of the project's commands to its end and return what it printed."""
        name = f"{command[0]}-{secrets.token_hex(3)}"
        with ManagedProcess(
            _command(command),
            environment=self.environment,
            log_path=self.folder / f"{name}.log",
            cwd=_root(),
        ) as process:
            code = process.wait(timeout=120)
            printed = process.log_text()
        if expect is not None and code != expect:
            raise RuntimeError(f"{' '.join(command)} exited with {code}:\n{printed}")
        return printed

    def add_app(self, app_id: str, *arguments: str) -> str:
        """Register an app, see `add_app`, with what the tests need; return its key."""
        return add_app(self.environment, self.mosaic, app_id, *_ALLOWED, *arguments).app_key

    def _complaints(self) -> list[str]:
        """What the simulator was asked, or answered, that is on no page of Mosaic's."""
        process = self.processes.get("simulator")
        return self.mosaic.calls.complaints() if process is None or process.is_alive else []

    def _start_simulator(self, exit_stack: ExitStack) -> str:
        if not self._simulator_process:
            return exit_stack.enter_context(SimulatorServer()).url
        port_file = self.folder / "simulator.url"
        port_file.unlink(missing_ok=True)  # an earlier run's
        simulator = ManagedProcess(
            [
                *(sys.executable, "-m", "simulator", "--port-file", str(port_file)),
                *self._simulator_options,
            ],
            environment=base_variables(),
            log_path=self.folder / "simulator.log",
            cwd=_root(),
        )
        self.processes["simulator"] = exit_stack.enter_context(simulator)
        poll_until(port_file.exists, START_SECONDS, what="the simulator to start")
        return port_file.read_text(encoding="utf-8").strip()

    def _environment(self) -> dict[str, str]:
        url = self.mosaic_url
        values: dict[str, object] = {
            f"{PREFIX}ENCRYPTION_KEYS": f"k1:{_random_key()}",
            f"{PREFIX}LOOKUP_KEY": _random_key(),
            f"{PREFIX}MOSAIC_BASE_URL": url,
            f"{PREFIX}MOSAIC_TOKEN_URL": f"{url}/oidc/token",
            f"{PREFIX}MOSAIC_JWKS_URL": f"{url}/cis/oidc/jwks",
            "DATABASE_URL": self._database_url or f"sqlite:///{self._sqlite_path}",
            "CELERY_BROKER_URL": self._broker_url or self.redis.url(),
        }
        values |= {PREFIX + name.upper(): value for name, value in self._settings.items()}
        return {**base_variables(), **{name: str(value) for name, value in values.items()}}


@functools.cache
def _sqlite_at_head() -> bytes:
    with tempfile.TemporaryDirectory(prefix="sandbox-head-") as folder:
        path = Path(folder, "head.db")
        command.upgrade(config_for(f"sqlite:///{path}"), "head")
        return path.read_bytes()


def _command(words: Sequence[str]) -> list[str]:
    """Return a command of this very environment, whatever PATH says."""
    return [str(Path(sys.executable).parent / words[0]), *words[1:]]


def _random_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _root() -> Path:
    return Path(__file__).parent.parent
