"""Traffic as several processes share it: objects that have nothing in common but one Redis."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import pytest
import redis

from tests.integration.mosaic.mosaic_rig import make_settings
from tests.stage import Stage, redis_client
from worker import wiring
from worker.errors import HeldBack, MosaicUnavailable
from worker.storage.best_effort import BestEffortRedis
from worker.storage.encryption import KeyRing
from worker.storage.redis_scripts import ScriptRunner
from worker.traffic import CallPlan, Lane, Lead, Traffic, budgets
from worker.traffic.admission import Gate, Permit
from worker.traffic.scripts import Scripts
from worker.wiring import Services

_MOMENTS = ("until", "probing_until", "since", "first", "latest")


@dataclass(frozen=True)
class Client:
    """An app as Mosaic counts it."""

    client_id: str = "shop"
    base_url: str = "https://mosaic.example"


SHOP, FORUM, DESK = Client("shop"), Client("forum"), Client("desk")


class Process:
    """What one process has of the room."""

    def __init__(
        self,
        url: str,
        *,
        key: bytes = b"k",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        **settings: Any,
    ) -> None:
        ring = f"k1:{base64.b64encode(key * 32).decode()}"
        self.settings = make_settings(encryption_keys=ring, **settings)
        # Patient connections: a busy machine is no failure of Redis.
        self.redis = redis.Redis.from_url(url, socket_timeout=60)
        keyring = KeyRing.from_settings(self.settings)
        self.shared = BestEffortRedis(ScriptRunner(self.redis.connection_pool), self.redis)
        self.traffic = Traffic(self.shared, self.redis, self.settings, keyring, now)
        self.single_flight = self.traffic.single_flight

    @property
    def gate(self) -> Gate:
        return self.traffic._gate

    @property
    def scripts(self) -> Scripts:
        return self.gate._scripts

    def admit(
        self,
        lane: Lane = Lane.AUTH,
        app: Client = SHOP,
        max_wait_seconds: float = 0.0,
        *,
        whom: str | None = None,
        is_untried: bool = False,
    ) -> Permit:
        """Ask for a permit; for somebody nobody has asked for yet, unless a test says whom."""
        return self.gate.admit(
            lane, app, max_wait_seconds, whom=whom or uuid4().hex, is_untried=is_untried
        )

    def admit_all(self, lane: Lane = Lane.AUTH, app: Client = SHOP) -> int:
        """Take permits until there are none; return how many there were."""
        for number in range(10_000):
            try:
                self.admit(lane, app)
            except HeldBack:
                return number
        raise AssertionError("there is no end of it")

    def held_back(self, lane: Lane = Lane.AUTH, app: Client = SHOP) -> HeldBack:
        with pytest.raises(HeldBack) as held:
            self.admit(lane, app)
        return held.value

    def call(
        self,
        error: BaseException | None = None,
        lane: Lane = Lane.AUTH,
        app: Client = SHOP,
        allowed_seconds: float = 10.0,
        **options: Any,
    ) -> BaseException | None:
        """Make a call that goes like this; return what it raised in the end."""
        return end(self.admit(lane, app, **options), error, allowed_seconds)

    def fail(
        self, times: int = 1, app: Client = SHOP, lane: Lane = Lane.AUTH, whom: str | None = None
    ) -> None:
        """Have as many calls fail, each for somebody else unless a test says whom."""
        for _ in range(times):
            self.call(MosaicUnavailable(), lane, app, whom=whom)


class Starter(Protocol):
    """Makes processes on one Redis."""

    def __call__(
        self, *, key: bytes = b"k", now: Callable[[], datetime] = ..., **settings: Any
    ) -> Process: ...


@contextmanager
def starting(url: str) -> Iterator[Starter]:
    with ExitStack() as stack:

        def start(**options: Any) -> Process:
            process = Process(url, **options)
            stack.callback(process.redis.close)
            stack.callback(process.shared.close)
            return process

        yield start


def end(
    permit: Permit, error: BaseException | None = None, allowed_seconds: float = 10.0
) -> BaseException | None:
    """End a permitted call; return what was raised in the end."""
    try:
        with permit.observe() as observer, observer.asking(allowed_seconds):
            if error is not None:
                raise error  # noqa: TRY301 - this is Mosaic
    except BaseException as raised:  # noqa: BLE001 - those end up there, too
        return raised
    return None


def lead(process: Process, **changes: Any) -> Lead:
    """Be the one who calls Mosaic for all who ask the same."""
    joined = process.single_flight.join(plan(**changes))
    assert isinstance(joined, Lead)
    return joined


def publish(
    traffic: Traffic,
    lead: Lead,
    content: dict[str, Any],
    *,
    version: int = 1,
    seconds: float = 60,
) -> None:
    """Share what Mosaic answered, as it goes with the answer to whoever led."""
    call = traffic.single_flight.publication(lead, content, version=version, seconds=seconds)
    traffic.single_flight._scripts._shared._runner.run_all(call)


def plan(**changes: Any) -> CallPlan:
    """Return a plan; those with the same name are identical."""
    values: dict[str, Any] = {
        "name": "call",
        "app": SHOP,
        "user": "somebody",
        "version": 1,
        "since": datetime.now(UTC),
        "call_seconds": 10.0,
        "max_wait_seconds": 0.0,
    }
    return CallPlan(**(values | changes))


@contextmanager
def slow_refill() -> Iterator[None]:
    """Let a minute's budget be one of an hour: time goes by between two calls of a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budgets, "_MINUTE", 60 * budgets._MINUTE)
        yield


def pass_redis_time(url: str, seconds: float) -> None:
    """Make every moment kept in Redis that much earlier: its own clock cannot be moved.

    With negative *seconds* the clock is set back: moments are later, and so do their keys end.
    """
    with redis_client(url) as client:
        for key in client.scan_iter("mosaic-sessions:*"):
            if b":breaker:" in key:
                for name in _MOMENTS:
                    moment: Any = client.hget(key, name)
                    if moment is not None and float(moment) > 0:
                        client.hset(key, name, f"{float(moment) - seconds * 1e6:.0f}")
            elif b":budget:" in key or b":pause:" in key:
                moment = client.get(key)
                if moment is not None:
                    client.set(key, f"{float(moment) - seconds * 1e6:.0f}", keepttl=seconds > 0)


def waiting(url: str) -> int:
    """Return how many wait at Redis for a shared answer, this very moment."""
    with redis_client(url) as client:
        info: Any = client.info("clients")
        return int(info["blocked_clients"])


@contextmanager
def another_process(stage: Stage) -> Iterator[Services]:
    """Serve requests with services of their own, as another process would, while this lasts."""
    services = wiring.build(stage.settings, now=stage.now)
    try:
        with wiring.use(services):
            yield services
    finally:
        services.close()


def seconds(duration: timedelta) -> float:
    return duration.total_seconds()
