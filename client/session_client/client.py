"""`SessionClient` and `AsyncSessionClient`: what an app holds to sign its users in and out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from session_client import environment, logins, notices, requests, urls
from session_client._core.app import App
from session_client.about import Check, VerifyLogoutToken
from session_client.keys import AppKey
from session_client.operation import Call, Operation
from session_client.values import LogoutNotice

if TYPE_CHECKING:
    from typing_extensions import Self

    from session_client._redis.asyncio import AsyncDriver
    from session_client._redis.sync import Driver

R = TypeVar("R")
D = TypeVar("D")
Urls = tuple[str, str]  # of the broker, and of the Redis that carries answers

MAX_WAITING = 1000


class _Calls(ABC, Generic[D]):
    """What both clients can be asked, each declared once."""

    start = Operation(logins.Start)
    authenticate = Operation(logins.Authenticate)
    silent_auth = Operation(requests.SilentAuth)
    refresh = Operation(requests.Refresh)
    ticket = Operation(requests.IssueTicket)
    register = Operation(requests.Register)
    status = Operation(requests.Status)
    logout = Operation(requests.Logout)
    revoke_user = Operation(requests.RevokeUser)
    receipt = Operation(requests.Receipt)
    confirm = Operation(requests.ConfirmNotice)
    check = Operation(Check)
    verify_logout_token = Operation(VerifyLogoutToken)

    def __init__(  # noqa: PLR0913 - each is a setting
        self,
        *,
        broker_url: str,
        app_id: str,
        app_key: str | AppKey,
        earlier_keys: Sequence[str | AppKey] = (),
        reply_url: str | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._app = App.of(app_id, app_key, earlier_keys)
        urls.check(broker_url, reply_url)
        # Made here, not at the first call: all that is imported on its account is imported now.
        # A process that forks while another thread of it imports leaves the child a lock that
        # no thread opens.
        self._made = self._make((broker_url, reply_url or broker_url), max_waiting)

    @abstractmethod
    def _make(self, urls: Urls, max_waiting: int) -> D:
        """Return what calls go through. It connects to nothing yet."""

    @property
    def _driver(self) -> D:
        return self._made

    @classmethod
    def from_env(cls) -> Self:
        """Make a client of ``SESSION_BROKER_URL``, ``SESSION_APP_ID`` and ``SESSION_APP_KEY``.

        ``SESSION_APP_KEY_FILE`` may name a file with the key instead; ``SESSION_REPLY_URL`` and
        ``SESSION_EARLIER_KEYS`` (with commas in between) are optional. Celery reads none of these
        names. Raises `ConfigurationError`, which says what is missing.
        """
        return cls(**environment.settings())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} app_id={self._app.app_id!r}>"

    def open_notice(self, envelope: str) -> LogoutNotice:
        """Open a sealed notice that came to this app's own queue. Raises `InvalidNotice`.

        *envelope* is the keyword argument of that name. `confirm` it once it is acted on; until
        then it comes again.
        """
        return notices.open_notice(
            envelope, app_id=self._app.app_id, app_keys=self._app.keys.values()
        )


class SessionClient(_Calls["Driver"]):
    """Asks the session worker on behalf of one app, and waits for its answers.

    Share one per process among all threads and greenlets. It may be made before the process
    forks, and opens its connections on first use.

    Args:
        broker_url: where the worker's broker is, e.g. ``rediss://user:password@host/0``.
            Environment variables such as ``CELERY_BROKER_URL`` do not change it. A broker that is
            no Redis needs Celery (``pip install mosaic-session-client[celery]``).
        app_id: this app's name at the worker, as given to ``mosaic-sessions apps add``.
        app_key: the key that command printed. Keep it like a password.
        earlier_keys: the app's keys from before a rotation: what they sealed is still opened.
        reply_url: the Redis that carries answers, which is the workers' ``REDIS_URL``; the broker's
            if they have none.
        max_waiting: how many calls may wait at once; other calls wait their turn, within their
            time.

    Raises `ConfigurationError`, which names the argument and quotes neither URL nor key. Nothing
    is connected to yet.

    Every call takes ``timeout`` in seconds (fractions count) and returns, or raises one of
    `session_client.errors`, within about that time, also when the broker is dead or accepts
    connections and never answers. Only to look up the broker's name may take longer: the system's
    resolver knows no limit.
    """

    def _make(self, urls: Urls, max_waiting: int) -> Driver:
        from session_client._redis.sync import driver  # noqa: PLC0415 - who awaits needs it not

        return driver(*urls, self._app.app_id, max_waiting=max_waiting)

    def _run(self, call: Call[R]) -> R:
        until = time.monotonic() + call.timeout
        return self._driver.run(call.life(self._app, until))

    def notices(self, queue: str, *, timeout: float | None = None) -> Iterator[LogoutNotice]:
        """Take notices from this app's own *queue*, without Celery; `confirm` each.

        Ends once *timeout* seconds have passed, if that is given. One that is lost on the way
        comes again by itself, until it is confirmed. Raises `BrokerUnavailable`.
        """
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while (now := time.monotonic()) < until:
            item = self._driver.take(queue, min(until, now + notices.LOOK_AGAIN_SECONDS))
            notice = notices.taken(item, self.open_notice)
            if notice is not None:
                yield notice

    def close(self) -> None:
        """Close this process's connections. The client opens new ones when it is used again."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSessionClient(_Calls["AsyncDriver"]):
    """Asks the session worker likewise; each call is awaited.

    Share one per process among all tasks. It keeps two connections per event loop, however many
    calls wait. A call that is cancelled leaves nothing behind; what was sent may still be done.

    Takes what `SessionClient` takes. Its broker must be a Redis. When *max_waiting* calls wait, the
    next one is `Unavailable` at once.
    """

    def _make(self, urls: Urls, max_waiting: int) -> AsyncDriver:
        from session_client._redis.asyncio import driver  # noqa: PLC0415 - who waits needs it not

        return driver(*urls, self._app, max_waiting=max_waiting)

    def _run(self, call: Call[R]) -> Coroutine[Any, Any, R]:
        until = time.monotonic() + call.timeout
        return self._driver.run(call.life(self._app, until))

    async def notices(
        self,
        queue: str,
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[LogoutNotice]:
        """Take notices from this app's own *queue*, as `SessionClient.notices` does."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        async with self._driver.taking(queue) as take:
            while (now := time.monotonic()) < until:
                item = await take(min(until, now + notices.LOOK_AGAIN_SECONDS))
                notice = notices.taken(item, self.open_notice)
                if notice is not None:
                    yield notice

    async def aclose(self) -> None:
        """Close this event loop's connections. The client opens new ones when it is used again."""
        await self._driver.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.aclose()
