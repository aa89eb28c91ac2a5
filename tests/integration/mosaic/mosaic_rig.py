"""What `MosaicGateway` needs around it: a pretend Mosaic, a Redis, settings, a clock."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.redis_server import RedisServer
from simulator.idp.records import Login
from simulator.server import SimulatorServer
from worker.mosaic import (
    ClientSecret,
    Identity,
    MosaicApp,
    MosaicGateway,
    SilentAuthCall,
    Tokens,
    build_gateway,
)
from worker.settings.model import Settings
from worker.storage.best_effort import BestEffortRedis
from worker.storage.encryption import KeyRing
from worker.storage.redis_scripts import ScriptRunner
from worker.traffic.breakers import CallObserver

KEY = base64.b64encode(b"k" * 32).decode()
SECRET = "shop-secret"
T = TypeVar("T")


def make_settings(**changes: Any) -> Settings:
    values = {"encryption_keys": f"k1:{KEY}", "lookup_key": KEY}
    return Settings.model_validate(values | changes)


def make_app(url: str, **changes: Any) -> MosaicApp:
    values: dict[str, Any] = {
        "app_id": "shop",
        "client_id": "shop",
        "credential": ClientSecret(SECRET),
        "base_url": url,
        "token_url": f"{url}/oidc/token",
        "jwks_url": f"{url}/cis/oidc/jwks",
        "issuer": "https://userid.security",
        "session_lifetime": timedelta(days=14),
    }
    return MosaicApp(**(values | changes))


class Free:
    """A permit that nobody learns from."""

    @contextmanager
    def observe(self) -> Iterator[CallObserver]:
        yield CallObserver(min_counted_timeout=0)


@dataclass
class Rig:
    """One tenant with the app *shop*, and as many gateways (processes) as a test asks for."""

    mosaic: SimulatorServer
    redis_server: RedisServer
    settings: Settings = field(default_factory=make_settings)
    _open: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.mosaic.state
        self.state.add_client("shop", SECRET)
        self.app = make_app(self.mosaic.url)
        self.redis = self.connect()

    def connect(self, timeout_seconds: float = 60) -> redis.Redis:
        """Connect to Redis, patiently unless told otherwise: a busy machine is no failure of it."""
        client = redis.Redis.from_url(
            self.redis_server.url(), socket_timeout=timeout_seconds, retry=Retry(NoBackoff(), 0)
        )
        self._open.append(client)
        return client

    def gateway(self, redis_timeout_seconds: float = 60) -> MosaicGateway:
        """A gateway as another process would make it: sharing nothing but Redis."""
        keyring = KeyRing.from_settings(self.settings)
        client = self.connect(redis_timeout_seconds)
        shared = BestEffortRedis(ScriptRunner(client.connection_pool), client)
        gateway = build_gateway(self.settings, client, shared, keyring, self.now)
        self._open.append(gateway)
        return gateway

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.state.clock.now(), UTC)

    def advance(self, seconds: float) -> None:
        self.state.clock.advance(seconds)

    def login(self, user_id: str = "ada") -> Login:
        return self.state.login(user_id, "shop", ["pwd"])

    def count(self, endpoint: str) -> int:
        return self.state.calls.count(endpoint)

    def close(self) -> None:
        for thing in self._open:
            thing.close()


@contextmanager
def running_rig() -> Iterator[Rig]:
    with SimulatorServer() as mosaic, RedisServer() as redis_server:
        rig = Rig(mosaic, redis_server)
        try:
            yield rig
            assert rig.state.calls.complaints() == []  # the worker asks as Mosaic's pages say
        finally:
            rig.close()


def authenticate(
    gateway: MosaicGateway,
    app: MosaicApp,
    session_id: str,
    user_id: str = "ada",
    timeout_seconds: float = 5.0,
) -> tuple[Tokens, Identity]:
    return gateway.authenticate_session(
        Free(),
        app,
        SilentAuthCall(session_id=session_id, user_id=user_id),
        timeout_seconds=timeout_seconds,
    )


def at_once(count: int, work: Callable[[], T]) -> list[T | Exception]:
    """Run *work* in *count* threads that start together; an error is an outcome too."""
    barrier = threading.Barrier(count)

    def run(_: int) -> T | Exception:
        barrier.wait()
        try:
            return work()
        except Exception as error:  # noqa: BLE001
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


class RawServer:
    """Answers each connection with whatever *answer* does to its socket; keeps what was asked."""

    def __init__(
        self, answer: Callable[[socket.socket], None], *, reads_first: bool = True
    ) -> None:
        self._answer = answer
        self._reads_first = reads_first
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing alone does not wake a thread that waits in accept().
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(30)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                if self._reads_first:
                    self.requests.append(connection.recv(65536))
                try:
                    self._answer(connection)
                except OSError:
                    continue
