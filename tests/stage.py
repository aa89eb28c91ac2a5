"""The service in one process, with verbs that tests can be read by.

Real database, real Redis, the simulator over HTTP; the clock is the simulator's, so that
`stage.pass_time` moves both sides. Tasks run here through `deliver`, exactly as a worker would
run them, but when the test says so.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

import pytest
import redis
from celery.exceptions import Retry
from sqlalchemy import Row, select

from models import Base, IdpSession, Logout, SessionEvent
from session_client import LogoutScope, Wishes, contract, requests, sealing
from session_client.contract import Task
from session_client.keys import AppKey
from simulator.server import SimulatorServer
from tests.heard import Heard
from tests.held_connections import none_held_in_calls
from tests.redis_users import as_the_worker
from tests.sound_store import require_sound
from worker import wiring
from worker.app import app as celery_app
from worker.app_registry import SILENT_BY_USER
from worker.mosaic import ClientSecret
from worker.operations import apps
from worker.operations.app_description import NewApp
from worker.outbox import mosaic_logouts
from worker.requests import answer_data
from worker.settings import model as settings_module
from worker.settings.model import Settings
from worker.storage.redis_client import connect_redis
from worker.tasks import logouts as _logouts  # noqa: F401 - registers its tasks
from worker.tasks import maintenance as _maintenance  # noqa: F401
from worker.tasks import sessions as _sessions  # noqa: F401
from worker.wiring import Services

ENCRYPTION_KEY = base64.b64encode(b"e" * 32).decode()
LOOKUP_KEY = base64.b64encode(b"l" * 32).decode()

WISHES = ("resource", "claims", "org_id", "user_agent", "ip_address")


@contextmanager
def redis_client(url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(url)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def patient_redis() -> Iterator[None]:
    """Make connections that wait long: a busy machine is no failure of Redis."""
    connect = connect_redis
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "connect_redis", lambda url, *_: connect(url, 60))
        yield


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says, unverified."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = sealing.json_object(base64.urlsafe_b64decode(payload + "=="))
    return claims


def environment(
    store_url: str, redis_url: str, mosaic: SimulatorServer, **overrides: str
) -> dict[str, str]:
    """Return the settings' environment variables; *overrides* go without the prefix."""
    values = {
        "DATABASE_URL": store_url,
        "CELERY_BROKER_URL": as_the_worker(redis_url),
        "MOSAIC_SESSIONS_ENCRYPTION_KEYS": f"k1:{ENCRYPTION_KEY}",
        "MOSAIC_SESSIONS_LOOKUP_KEY": LOOKUP_KEY,
        "MOSAIC_SESSIONS_MOSAIC_BASE_URL": mosaic.url,
        "MOSAIC_SESSIONS_MOSAIC_TOKEN_URL": mosaic.token_url,
        "MOSAIC_SESSIONS_MOSAIC_JWKS_URL": mosaic.jwks_url,
        # Longer than a busy machine needs for what a test does while a call is held at a gate.
        "MOSAIC_SESSIONS_MOSAIC_TIMEOUT_SECONDS": "25",
        # Each request asks Mosaic, unless a test is about not asking.
        "MOSAIC_SESSIONS_REUSE_SECONDS": "0",
        "MOSAIC_SESSIONS_MOSAIC_USER_CALLS_PER_MINUTE": "1000000",
        # Budgets and breaker go by Redis' clock: what takes hours on stage happens at once there.
        "MOSAIC_SESSIONS_BREAKER_FAILURES": "1000000",
    }
    return values | {f"MOSAIC_SESSIONS_{name.upper()}": v for name, v in overrides.items()}


def wishing(fields: dict[str, Any]) -> dict[str, Any]:
    """Return *fields* with what is wished for in its place."""
    wishes = {name: fields[name] for name in WISHES if name in fields}
    others = {name: value for name, value in fields.items() if name not in wishes}
    return {**others, "wishes": Wishes(**wishes)} if wishes else others


@dataclass(frozen=True)
class Sent:
    """One request as it lies on the broker; deliver it as often as you like."""

    task: Task
    request_id: str
    kwargs: dict[str, Any] = field(repr=False)
    queue: str | None = None  # another one than the task's own


class Stage:
    """Everything, in this process."""

    # With Redis: a busy machine is no failure of it.
    _connecting: Callable[[], AbstractContextManager[None]] = staticmethod(patient_redis)

    def __init__(
        self, store_url: str, redis_url: str, mosaic: SimulatorServer, **overrides: str
    ) -> None:
        self.mosaic = mosaic
        self.redis = redis.Redis.from_url(redis_url)  # the test's own: it may do everything
        least = {"guard_clock_seconds": "1e-9"}  # no grace is too short for it
        self.settings: Settings = settings_module.read(
            environment(store_url, redis_url, mosaic, **(least | overrides))
        )
        if "guard_clock_seconds" not in overrides:
            # The clock is the simulator's, weeks from the database's: more than may be configured.
            self.settings = self.settings.model_copy(update={"guard_clock_seconds": 1e9})
        with self._connecting():
            self.services: Services = wiring.build(self.settings, now=self.now)
        self.keys: dict[str, AppKey] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self._exit.enter_context(wiring.use(self.services))
        self._exit.enter_context(none_held_in_calls(self.services.store.engine))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._exit.close()
            require_sound(self.services.store)
        finally:
            self.services.close()
            self.redis.close()

    # --- the world

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.mosaic.state.clock.now(), UTC)

    def pass_time(self, **duration: float) -> None:
        self.mosaic.state.clock.advance(timedelta(**duration).total_seconds())

    def reread_apps(self) -> None:
        """Have the worker look at the apps again, as it does after `RELOAD_AFTER_SECONDS`."""
        self.services.apps._apps.clear()

    def add_app(self, app_id: str, **choices: Any) -> AppKey:
        """Register an app here, and its client at Mosaic.

        It may ask by user id, as most tests do, unless *silent_by_user* is false.
        """
        capabilities = set(choices.pop("capabilities", ()))
        if choices.pop("silent_by_user", True):
            capabilities.add(SILENT_BY_USER)
        self.mosaic.state.add_client(f"client-{app_id}", f"secret-of-{app_id}")
        new = NewApp(
            app_id=app_id,
            client_id=f"client-{app_id}",
            credential=ClientSecret(f"secret-of-{app_id}"),
            capabilities=tuple(sorted(capabilities)),
            **choices,
        )
        self.keys[app_id] = apps.add_app(self.services, new)
        return self.keys[app_id]

    def login(self, user_id: str, app_id: str, amr: tuple[str, ...] = ("pwd",)) -> Any:
        """Log the user in at Mosaic, as the app's front end does; nobody here knows yet."""
        return self.mosaic.state.login(user_id, f"client-{app_id}", amr=amr)

    def registered(
        self,
        user_id: str = "ada",
        app_id: str = "shop",
        *,
        amr: tuple[str, ...] = ("pwd",),
        device_id: str | None = None,
    ) -> UUID:
        """Log in, register, and return the session's reference."""
        login = self.login(user_id, app_id, amr)
        answer = self.ask(
            app_id,
            requests.Register(
                session_id=login.session_id,
                user_id=user_id,
                id_token=login.id_token,
                device_id=device_id,
            ),
        )
        assert answer.verdict is contract.Verdict.OK, answer
        return UUID(answer.session_ref)

    def signed_in(
        self,
        user_id: str = "ada",
        app_id: str = "shop",
        *,
        amr: tuple[str, ...] = ("pwd",),
        **fields: Any,
    ) -> Any:
        """Log in and register; return the answer, with the browser's token."""
        answer = self.remember(self.login(user_id, app_id, amr), user_id, app_id, **fields)
        assert answer.verdict is contract.Verdict.OK, answer
        return answer

    # --- requests

    def seal(
        self,
        app_id: str,
        request: requests.Request[Any],
        *,
        request_id: str | None = None,
        key: AppKey | None = None,
        **changes: Any,
    ) -> Sent:
        """Seal a request as the client does; *changes* replace fields of the sealed content."""
        request_id = request_id or requests.new_request_id()
        content = requests.content_of(
            request,
            app_id=app_id,
            request_id=request_id,
            issued_at=self.now(),
            lifetime=timedelta(seconds=30),
        )
        content |= changes
        envelope = sealing.seal(key or self.keys[app_id], sealing.Kind.REQUEST, content)
        return Sent(request.task, request_id, {"app_id": app_id, "envelope": envelope})

    def ask(self, app_id: str, request: requests.Request[Any], **options: Any) -> Any:
        """Send a request, run its task, and return the typed answer."""
        return self.deliver(self.seal(app_id, request, **options))

    def deliver(self, sent: Sent) -> Any:
        """Run the task as a worker would, and return the typed answer it pushed, if it did."""
        self.run(sent)
        return self.answer_to(sent)

    def run(self, sent: Sent) -> None:
        # A task that asks to be run again later has answered already; whether it is, is up to us.
        with suppress(Retry):
            celery_app.tasks[sent.task.value].apply(
                kwargs=sent.kwargs,
                task_id=sent.request_id,
                routing_key=sent.queue or contract.QUEUE_OF[sent.task].value,
                throw=True,
            )

    def answer_to(self, sent: Sent) -> Any:
        app_id = sent.kwargs["app_id"]
        raw: Any = self.redis.lpop(contract.reply_key(app_id, sent.request_id))
        if raw is None:
            return None
        if raw.startswith(b"{"):
            return Heard.from_wire(sealing.json_object(raw))
        content = sealing.unseal(raw.decode(), sealing.Kind.ANSWER, lambda _: self.keys[app_id])
        # What the page tells other languages is so in every test.
        answer_data.data_of(sent.task, contract.Verdict(content["verdict"])).model_validate(
            content.get("data", {})
        )
        return Heard.from_wire(content)

    def silent_auth(self, user_id: str = "ada", app_id: str = "forum", **fields: Any) -> Any:
        return self.ask(app_id, requests.SilentAuth(user_id=user_id, **wishing(fields)))

    def browse(self, browser_token: str, app_id: str = "forum", **fields: Any) -> Any:
        """Ask for tokens as a browser that brings its token along."""
        named = {"browser_token": browser_token, **wishing(fields)}
        return self.ask(app_id, requests.SilentAuth(**named))

    def log_out(self, user_id: str = "ada", app_id: str = "shop", **fields: Any) -> Any:
        scope = fields.pop("scope", None)
        everywhere = scope == LogoutScope.USER
        return self.ask(app_id, requests.Logout(user_id=user_id, everywhere=everywhere, **fields))

    def tell_mosaic(self) -> list[str | None]:
        """Do what the woken messages of all open deliveries would do; return the outcomes."""
        open_deliveries = [row.id for row in self.logouts() if row.closed_at is None]
        return [mosaic_logouts.end_at_idp(self.services, delivery) for delivery in open_deliveries]

    def remember(
        self, login: Any, user_id: str = "ada", app_id: str = "shop", **fields: Any
    ) -> Any:
        """Register what a login returned."""
        fields = {"session_id": login.session_id, "id_token": login.id_token} | fields
        return self.ask(app_id, requests.Register(user_id=user_id, **fields))

    def status(self, user_id: str = "ada", app_id: str = "shop") -> Any:
        return self.ask(app_id, requests.Status(user_id=user_id))

    @contextmanager
    def meanwhile(self, act: Callable[[], Any]) -> Iterator[Future[Any]]:
        """Run *act* in another thread while the block lasts."""
        with ThreadPoolExecutor(1) as thread:
            yield thread.submit(act)

    def at_once(self, *acts: Callable[[], Any]) -> list[Any]:
        """Run *acts* at the same time, each in a thread, and return what they return."""
        start = threading.Barrier(len(acts))

        def run(act: Callable[[], Any]) -> Any:
            start.wait(timeout=60)
            return act()

        with ThreadPoolExecutor(len(acts)) as threads:
            return list(threads.map(run, acts))

    # --- what is so

    def session(self, session: UUID) -> Row[Any]:
        with self.services.store.read() as connection:
            query = select(IdpSession.__table__).where(IdpSession.id == session)
            return connection.execute(query).one()

    def sessions(self) -> list[Row[Any]]:
        with self.services.store.read() as connection:
            return list(connection.execute(select(IdpSession.__table__)).all())

    def events(self) -> list[tuple[str, str | None]]:
        """The audit trail: what happened, and its detail."""
        with self.services.store.read() as connection:
            query = select(SessionEvent.event, SessionEvent.detail).order_by(SessionEvent.id)
            return [(row.event, row.detail) for row in connection.execute(query)]

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, to compare before and after."""
        with self.services.store.read() as connection:
            return {
                table.name: sorted(
                    (tuple(row) for row in connection.execute(select(table))), key=repr
                )
                for table in Base.metadata.sorted_tables
            }

    def logouts(self) -> list[Row[Any]]:
        with self.services.store.read() as connection:
            return list(connection.execute(select(Logout.__table__)).all())


class ImpatientStage(Stage):
    """For tests about how long the worker waits for Redis."""

    _connecting = staticmethod(nullcontext)
