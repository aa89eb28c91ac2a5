"""Client tokens shared by all processes, sealed, in Redis.

Redis is a convenience here: while it does not answer, processes fetch tokens of their own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import structlog

from worker.storage.best_effort import BestEffortRedis
from worker.storage.encryption import KeyRing, SealedValueUnreadable
from worker.storage.redis_scripts import Script

# A lock that lasts for longer than any is held was taken before Redis' clock was set back, or by
# the Redis that failed over to this one. Had its holder died, no process would fetch for as long as
# the clocks are apart.
_TAKE: Final = Script("""
if redis.call("PTTL", KEYS[1]) > tonumber(ARGV[2]) then redis.call("DEL", KEYS[1]) end
return redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2]) and 1 or 0
""")
_DELETE_IF_EQUAL: Final = Script("""
if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end
return 0
""")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ClientToken:
    """An app's access token. Times are Unix seconds."""

    value: str = field(repr=False)
    issued_at: float
    expires_at: float
    obtained_with: str = field(repr=False)  # a keyed hash of the credentials and the token URL


class ClientTokenCache:
    """One token and one lock for each client id. No method raises when Redis does not answer."""

    def __init__(self, redis: BestEffortRedis, keyring: KeyRing) -> None:
        self._redis = redis
        self._keyring = keyring

    def read(self, client_id: str) -> ClientToken | None:
        """Return the shared token, if there is one that can be read."""
        sealed = self._redis.attempt(lambda redis: redis.get(_token_key(client_id)))
        return self._open(client_id, sealed)

    def write(self, client_id: str, token: ClientToken, seconds: float) -> None:
        """Share *token* for *seconds*."""
        sealed = self._keyring.seal(json.dumps(asdict(token)), _place(client_id))
        milliseconds = max(1, int(seconds * 1000))
        self._redis.attempt(lambda redis: redis.set(_token_key(client_id), sealed, px=milliseconds))

    def forget(self, client_id: str, value: str) -> None:
        """Delete the shared token if it is still *value*; a newer one stays."""
        key = _token_key(client_id)
        sealed = self._redis.attempt(lambda redis: redis.get(key))
        token = self._open(client_id, sealed)
        if token is not None and token.value == value:
            self._redis.run(_DELETE_IF_EQUAL, [key], [sealed])

    def note_hang(self, client_id: str, at: float, seconds: float) -> None:
        """Tell all processes for *seconds* that a fetch has hung, and when it failed."""
        milliseconds = int(seconds * 1000)
        self._redis.attempt(lambda redis: redis.set(_hang_key(client_id), str(at), px=milliseconds))

    def hung_at(self, client_id: str) -> float:
        """Return when a fetch of any process has failed that hung; long ago if none has lately."""
        noted = self._redis.attempt(lambda redis: redis.get(_hang_key(client_id)))
        try:
            return float(noted)
        except (TypeError, ValueError):  # None; or anybody wrote there who may use this Redis
            return float("-inf")

    @contextmanager
    def lock(self, client_id: str, lease_seconds: float) -> Iterator[bool]:
        """Yield whether this process may fetch; it always may while Redis does not answer.

        The lease ends by itself if this process dies.
        """
        key, mark = f"mosaic:client_token_lock:{client_id}", secrets.token_hex(16)
        lease = int(lease_seconds * 1000)
        is_ours = self._redis.run(_TAKE, [key], [mark, lease]) in {None, 1}
        try:
            yield is_ours
        finally:
            if is_ours:
                self._redis.run(_DELETE_IF_EQUAL, [key], [mark])

    def _open(self, client_id: str, sealed: Any) -> ClientToken | None:
        if sealed is None:
            return None
        try:
            return ClientToken(**json.loads(self._keyring.open(sealed, _place(client_id))))
        except (SealedValueUnreadable, ValueError, TypeError):
            # From another release, or sealed with a key that left the ring: the next fetch
            # writes over it.
            log.warning("client_token_unreadable", client_id=client_id)
            return None


def _token_key(client_id: str) -> str:
    return f"mosaic:client_token:{client_id}"


def _hang_key(client_id: str) -> str:
    return f"mosaic:client_token_hang:{client_id}"


def _place(client_id: str) -> str:
    return f"client_token:{client_id}"
