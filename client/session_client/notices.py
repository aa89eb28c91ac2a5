"""Notices: a session this app shares has ended. One call verifies each kind.

Both kinds come at least once, always with the same ``notice_id`` for the same ending. Acting twice
on one is harmless (end the local session, which is then ended already); an app that wants to know
passes a `SeenNotices`. A repeat does not prove that the first one was acted on: the app may have
crashed in between. So act on it too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from session_client import contract, ended, sealing, times
from session_client.errors import InvalidNotice, SealBroken
from session_client.keys import AppKey

BACKCHANNEL_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_LONGEST_TOKEN: Final = 16 * 1024
_MAX_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutNotice:
    """End the app's own sessions of this user: those of ``session_ref``, or all when it is None.

    ``is_repeat`` tells that this notice was seen before, if a `SeenNotices` was given.
    """

    notice_id: str
    user_id: str | None
    session_ref: str | None
    cause: str | None = None
    ended_at: datetime | None = None
    is_repeat: bool = False


class SeenNotices(Protocol):
    """Where an app remembers notices, e.g. a table with a unique column."""

    def add(self, notice_id: str) -> bool:
        """Remember *notice_id*. Returns False when it was there already."""
        ...


class SeenInMemory:
    """Remembers the last ten thousand notices of this process. Thread-safe."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, notice_id: str) -> bool:
        """Remember *notice_id*. Returns False when it was there already."""
        with self._lock:
            if notice_id in self._seen:
                return False
            self._seen[notice_id] = None
            if len(self._seen) > _MAX_REMEMBERED:
                self._seen.popitem(last=False)
            return True


def verify_logout_token(
    token: str,
    *,
    jwks: Mapping[str, Any],
    issuer: str,
    audience: str,
    seen: SeenNotices | None = None,
) -> LogoutNotice:
    """Verify the ``logout_token`` of an OpenID Connect back-channel logout request.

    Args:
        token: the form field ``logout_token``.
        jwks: the worker's public keys, as `mosaic-sessions monitor` serves them.
        issuer: the worker's name, its setting ``MOSAIC_SESSIONS_NOTICE_ISSUER``.
        audience: this app's client id at Mosaic.
        seen: where to look for and remember the notice's id.

    Answer the request with 200 when this returns, and with 400 when it raises `InvalidNotice`.
    Source: OpenID Connect Back-Channel Logout 1.0, sections 2.4 to 2.8.
    """
    if not isinstance(token, str):
        raise InvalidNotice("no text")
    claims = _verified_claims(token, jwks)
    _check_claims(claims, issuer, audience)
    return _noticed(
        seen,
        notice_id=claims["jti"],
        user_id=claims.get("sub"),
        session_ref=claims.get("sid"),
    )


def open_notice(
    envelope: str,
    *,
    app_id: str,
    app_keys: Iterable[AppKey | str],
    seen: SeenNotices | None = None,
) -> LogoutNotice:
    """Open the sealed notice that came as a Celery message to this app's own queue.

    Args:
        envelope: the task's keyword argument of that name.
        app_id: this app's name at the worker.
        app_keys: its key; while it is rotated, the old and the new one.
        seen: where to look for and remember the notice's id.

    Tell the worker with `SessionClient.confirm_notice` once it is acted on; until then it comes
    again. Raises `InvalidNotice`.
    """
    if not isinstance(envelope, str):
        raise InvalidNotice("no text")
    parsed = [key if isinstance(key, AppKey) else AppKey.parse(key) for key in app_keys]
    keys = {key.kid: key for key in parsed}
    try:
        content = sealing.unseal(envelope, sealing.Kind.NOTICE, keys.get)
    except SealBroken as error:
        raise InvalidNotice(str(error)) from None
    about = (content.get("v"), content.get("task"), content.get("app_id"))
    if about != (contract.VERSION, contract.LOGOUT_NOTICE_TASK, app_id):
        raise InvalidNotice("it is for another app, or of another version")
    try:
        ended_at = times.from_wire(content["ended_at"])
        texts = {name: str(content[name]) for name in ("notice_id", "user_id", "session_ref")}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InvalidNotice("it has another shape") from None
    return _noticed(seen, cause=content.get("cause"), ended_at=ended_at, **texts)


def _noticed(seen: SeenNotices | None, **fields: Any) -> LogoutNotice:
    # From here on no answer of this process, were it on its way already, brings the session back.
    ended.SEEN.add(fields["session_ref"], ended.reason_of(fields.get("cause")))
    is_repeat = seen is not None and not seen.add(fields["notice_id"])
    return LogoutNotice(**fields, is_repeat=is_repeat)


def _verified_claims(token: str, jwks: Mapping[str, Any]) -> dict[str, Any]:
    if len(token) > _LONGEST_TOKEN:
        raise InvalidNotice("too large")
    try:
        keys = KeySet.import_key_set({"keys": list(jwks["keys"])})
        signed = jws.deserialize_compact(token, keys, algorithms=["RS256"])
        claims = sealing.json_object(signed.payload)
        header = signed.headers()
    except (JoseError, ValueError, KeyError, TypeError):
        raise InvalidNotice("its signature does not verify") from None
    if str(header.get("typ", "")).lower() not in {"logout+jwt", "application/logout+jwt"}:
        raise InvalidNotice("another kind of token")
    return claims


def _check_claims(claims: Mapping[str, Any], issuer: str, audience: str) -> None:
    audiences = claims.get("aud")
    audiences = audiences if isinstance(audiences, list) else [audiences]
    events = claims.get("events")
    checks = {
        "iss": claims.get("iss") == issuer,
        "aud": audience in audiences,
        "iat": _seconds(claims.get("iat")) <= _now() + _skew(),
        "exp": _seconds(claims.get("exp")) > _now() - _skew(),
        "events": isinstance(events, dict) and isinstance(events.get(BACKCHANNEL_EVENT), dict),
        "nonce": "nonce" not in claims,  # that would be an ID token somebody sends us
        "jti": isinstance(claims.get("jti"), str) and claims["jti"] != "",
        "sub or sid": {str} <= _types_of(claims, "sub", "sid") <= {str, type(None)},
    }
    wrong = [name for name, is_right in checks.items() if not is_right]
    if wrong:
        raise InvalidNotice(f"wrong {', '.join(wrong)}")


def _types_of(claims: Mapping[str, Any], *names: str) -> set[type]:
    return {type(claims.get(name)) for name in names}


def _seconds(value: object) -> float:
    if type(value) not in {int, float}:
        raise InvalidNotice("a time that is no number")
    try:
        return float(cast("float", value))
    except OverflowError:
        raise InvalidNotice("a time that is no number") from None


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _skew() -> float:
    return contract.MAX_CLOCK_SKEW.total_seconds()
