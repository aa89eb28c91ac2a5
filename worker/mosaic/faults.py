"""What is wrong with how we are set up at Mosaic, for operators who ask how the service is.

A wrong address or a wrong secret fails every request of an app, while all processes are alive. The
worker that meets it notes it in Redis, and the next success takes the note back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import redis
import structlog

from worker.errors import MosaicUnavailable, OperatorMustAct, TokenRejected
from worker.mosaic.asked import Endpoint

log = structlog.get_logger()

KEY: Final = "mosaic-sessions:faults"
# Longer than any pause between two attempts, so that it does not come and go.
REMEMBERED_SECONDS: Final = 600

# The place of an endpoint, of tokens that came and are not what they claim to be.
TOKENS: Final = "tokens"
# What all tokens of a client fail by when it, or its app, is set up wrongly, or a clock is wrong.
# Any other check may be failed by one user's: who signs in must not make the service look down.
OF_SETUP: Final = frozenset(
    {"encrypted", "alg", "iss", "kid", "signature", "aud", "azp", "client_id", "exp", "iat", "nbf"}
)
NO_ID_TOKEN: Final = "no ID token"  # noqa: S105 - and the access token does not do in its place

# Asked seldom, by a lock each. The breaker does not look at them: they may be an app's own.
_FETCHED: Final = frozenset({Endpoint.TOKEN, Endpoint.JWKS})


@dataclass(frozen=True, slots=True)
class Fault:
    """What did not work lately, and has not worked since."""

    endpoint: str
    who: str  # the app, or the address of a key set, which apps share
    error: str  # its type
    detail: str
    at: float  # Unix seconds

    @property
    def name(self) -> str:
        """What tells it from other faults."""
        return f"{self.endpoint} {self.who}"


class Faults:
    """Notes faults, and takes them back. Safe for all threads; does without Redis."""

    def __init__(self, redis: redis.Redis, now: Callable[[], datetime]) -> None:
        self._redis = redis
        self._now = now
        self._noted: set[str] = set()
        self._excused: set[str] = set()

    @contextmanager
    def watch(self, endpoint: Endpoint, who: str) -> Iterator[None]:
        """Note what is raised within, if waiting does not help or nothing else would show it."""
        try:
            yield
        except OperatorMustAct as error:
            self._note(endpoint, who, error)
            raise
        except MosaicUnavailable as error:
            if endpoint in _FETCHED:
                self._note(endpoint, who, error)
            raise
        name = f"{endpoint} {who}"
        if endpoint in _FETCHED or name in self._noted:
            self._take_back(name)

    @contextmanager
    def watch_tokens(self, app_id: str) -> Iterator[None]:
        """Note that the tokens which an app's client gets are rejected for how it is set up.

        Why no keys can be had is noted of the key set.
        """
        try:
            yield
        except TokenRejected as error:
            if error.check in OF_SETUP or error.check.startswith(NO_ID_TOKEN):
                self._note(TOKENS, app_id, error)
            raise
        name = f"{TOKENS} {app_id}"
        if name in self._noted:
            self._take_back(name)

    @contextmanager
    def excuse(self, endpoint: Endpoint, who: str) -> Iterator[None]:
        """Note nothing of such calls within: nobody but a check makes them."""
        name = f"{endpoint} {who}"
        self._excused.add(name)
        try:
            yield
        finally:
            self._excused.discard(name)

    def present(self) -> list[Fault]:
        """Return what is wrong. Raises `redis.RedisError`."""
        written: Any = self._redis.hvals(KEY)
        faults = [fault for text in written if (fault := _read(text)) is not None]
        since = self._now().timestamp() - REMEMBERED_SECONDS
        return sorted((fault for fault in faults if fault.at >= since), key=lambda f: f.name)

    def take_back(self, endpoint: str, who: str) -> None:
        """Take back what any process has noted: it works."""
        self._take_back(f"{endpoint} {who}")

    def forget(self) -> None:
        """Forget what is noted: something was changed, and what is still wrong is noted anew."""
        self._do(lambda: self._redis.delete(KEY))

    def _note(self, endpoint: str, who: str, error: Exception) -> None:
        fault = Fault(str(endpoint), who, type(error).__name__, str(error), self._now().timestamp())
        if fault.name in self._excused:
            return
        self._noted.add(fault.name)
        self._do(lambda: self._write(fault))

    def _write(self, fault: Fault) -> None:
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hset(KEY, fault.name, json.dumps(asdict(fault)))
            pipeline.expire(KEY, REMEMBERED_SECONDS)
            pipeline.execute()

    def _take_back(self, name: str) -> None:
        self._noted.discard(name)
        self._do(lambda: self._redis.hdel(KEY, name))

    def _do(self, what: Callable[[], object]) -> None:
        try:
            what()
        except redis.RedisError as error:
            log.warning("fault_not_noted", error=type(error).__name__)


def _read(text: bytes) -> Fault | None:
    # Anybody who may use this Redis can write there.
    try:
        fields = json.loads(text)
        fault = Fault(**{**fields, "at": float(fields["at"])})
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
    words = (fault.endpoint, fault.who, fault.error, fault.detail)
    return fault if all(isinstance(word, str) for word in words) else None
